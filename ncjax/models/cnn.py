"""A small convolutional network: the least that sees images as images."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from ncjax.models.convolutions import Convolution, max_pool
from ncjax.models.heads import NAME, Head, HeadKind
from ncjax.models.normalisation import BatchNorm
from ncjax.models.resnet import ConvNorm
from ncjax.types import AnyArray


class CNN(nn.Module):
    """Stages of a 3x3 convolution, normalisation, ReLU and 2x2 max pooling; a dense layer; a head.

    Attributes:
        num_classes: K.
        channels: of the stages.
        feature_dim: d, of the dense layer.
        head: "learned" or "etf".
        head_bias: whether the head has a bias.
        dtype: of the computation; parameters and statistics stay float32.
        axis_name: as in `MLP`.
        convolution: "product" on CPUs, "native" elsewhere and for curvature
            (`ncjax.models.convolutions`).
    """

    num_classes: int
    channels: Sequence[int] = (32, 64)
    feature_dim: int = 128
    head: HeadKind = "learned"
    head_bias: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    convolution: Convolution = "native"

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "N ..."], *, train: bool = False
    ) -> tuple[Float[Array, "N K"], Float[Array, "N d"]]:
        """Logits and features (non-negative, not normalised) of a batch.

        Args:
            x: images `[N, H, W]` or `[N, H, W, C]`.
            train: as in `MLP`.
        """
        images = jnp.asarray(x[..., None] if x.ndim == 3 else x)
        for stage, channels in enumerate(self.channels):
            settings = (train, self.dtype, self.axis_name, self.convolution)
            images = nn.relu(ConvNorm(channels, 3, 1, *settings)(images))
            self.sow("intermediates", f"stage_{stage}", images)
            images = max_pool(images, window=2, stride=2)
        dense = nn.Dense(self.feature_dim, use_bias=False, dtype=self.dtype)
        norm = BatchNorm(use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name)
        features = nn.relu(norm(dense(images.reshape(len(images), -1)))).astype(jnp.float32)
        return Head(self.num_classes, self.head, self.head_bias, name=NAME)(features), features
