"""A small convolutional network: the least that sees images as images."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from ncjax.models.convolutions import Convolution, max_pool
from ncjax.models.heads import NAME, Head, HeadKind
from ncjax.models.layers import Layer, Norm, has_batch_norm
from ncjax.models.normalisation import BatchNorm
from ncjax.types import AnyArray


class CNN(nn.Module):
    """Stages of 3x3 convolutions, normalisation, ReLU and 2x2 max pooling; a dense layer; a head.

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
        norm: of every convolution (`ncjax.models.layers`); the dense layer has batch normalisation
            where convolutions have, else a bias.
        per_stage: convolutions of a stage.
    """

    num_classes: int
    channels: Sequence[int] = (32, 64)
    feature_dim: int = 128
    head: HeadKind = "learned"
    head_bias: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    convolution: Convolution = "native"
    norm: Norm = "batch"
    per_stage: int = 1

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
            settings = (train, self.dtype, self.axis_name, self.convolution, self.norm)
            for _ in range(self.per_stage):
                images = nn.relu(Layer(channels, 3, 1, *settings)(images))
            self.sow("intermediates", f"stage_{stage}", images)
            images = max_pool(images, window=2, stride=2)
        normalised = has_batch_norm(self.norm)
        features = nn.Dense(self.feature_dim, use_bias=not normalised, dtype=self.dtype)(
            images.reshape(len(images), -1)
        )
        if normalised:
            settings = {"dtype": self.dtype, "axis_name": self.axis_name}
            features = BatchNorm(use_running_average=not train, **settings)(features)
        features = nn.relu(features).astype(jnp.float32)
        return Head(self.num_classes, self.head, self.head_bias, name=NAME)(features), features
