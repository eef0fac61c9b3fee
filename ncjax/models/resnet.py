"""Residual networks as the neural-collapse papers use them (torchvision's, 1512.03385)."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from ncjax import checks
from ncjax.models.convolutions import Convolution, max_pool
from ncjax.models.heads import NAME, Head, HeadKind
from ncjax.models.layers import Layer, Norm
from ncjax.types import AnyArray

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks of the four stages, by depth."""
STEMS: tuple[str, ...] = ("cifar", "imagenet")


class ResNet(nn.Module):
    """ResNet-18, -34 (two 3x3 convolutions a block) or -50 (1x1, 3x3, 1x1).

    Attributes:
        num_classes: K.
        depth: 18, 34 or 50.
        width: channels of the first stage, doubled from stage to stage.
        inner: multiplies the channels inside the blocks of ResNet-50 only, so that d stays
            32 width (the width of 2210.02192).
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, max pooling: the default of the
            code of 2105.02375 even on images of 32 pixels).
        feature_dim: d; if given, the channels that the last block puts out (d = K of 2105.02375),
            else those of the depth: 8 or 32 width.
        head: "learned" or "etf".
        head_bias: whether the head has a bias.
        dtype: of the computation; parameters and statistics stay float32.
        axis_name: as in `MLP`.
        convolution: as in `CNN`.
        norm: of every convolution (`ncjax.models.layers`).
    """

    num_classes: int
    depth: int = 18
    width: int = 64
    inner: float = 1.0
    stem: str = "cifar"
    feature_dim: int | None = None
    head: HeadKind = "learned"
    head_bias: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    convolution: Convolution = "native"
    norm: Norm = "batch"

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "N ..."], *, train: bool = False
    ) -> tuple[Float[Array, "N K"], Float[Array, "N d"]]:
        """Logits and features (means over the image, non-negative, not normalised) of a batch.

        Args:
            x: images `[N, H, W]` or `[N, H, W, C]`.
            train: as in `MLP`.

        Raises:
            InputError: another depth or stem.
        """
        if self.depth not in BLOCKS:
            raise checks.reject("depth", self.depth, f"one of {', '.join(map(str, BLOCKS))}")
        checks.check_choice("stem", self.stem, STEMS)
        layer = functools.partial(
            Layer,
            train=train,
            dtype=self.dtype,
            axis_name=self.axis_name,
            convolution=self.convolution,
            norm=self.norm,
        )
        images = jnp.asarray(x[..., None] if x.ndim == 3 else x)
        small = self.stem == "cifar"
        images = nn.relu(layer(self.width, 3 if small else 7, 1 if small else 2)(images))
        images = images if small else max_pool(images, window=3, stride=2, padding=1)
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            channels = self.width * 2**stage
            for block in range(blocks):
                last = stage == 3 and block == blocks - 1
                out = channels * (4 if self.depth == 50 else 1)
                out = self.feature_dim or out if last else out
                stride = 2 if stage and not block else 1
                images = self._block(layer, images, channels, out, stride)
            self.sow("intermediates", f"stage_{stage}", images)
        features = images.mean((1, 2)).astype(jnp.float32)
        return Head(self.num_classes, self.head, self.head_bias, name=NAME)(features), features

    def _block(
        self,
        layer: functools.partial,
        x: jax.Array,
        channels: int,
        out: int,
        stride: int,
    ) -> jax.Array:
        if self.depth == 50:
            inside = max(1, round(channels * self.inner))
            layers = [(inside, 1, 1), (inside, 3, stride), (out, 1, 1)]
        else:
            layers = [(channels, 3, stride), (out, 3, 1)]
        y = x
        for place, sizes in enumerate(layers):
            y = layer(*sizes)(y if place == 0 else nn.relu(y))
        if x.shape != y.shape:
            x = layer(out, 1, stride)(x)
        return nn.relu(x + y)
