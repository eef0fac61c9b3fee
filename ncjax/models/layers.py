"""A convolution and its normalisation, of several kinds, as one layer."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
from jaxtyping import DTypeLike

from ncjax.models.convnorm import ConvNorm
from ncjax.models.convolutions import Convolution, convolve
from ncjax.models.normalisation import BatchNorm
from ncjax.models.orthogonal import newton_orthogonal, orthogonality

Norm = Literal["batch", "conv", "conv_batch", "spectral", "spectral_batch", "oni_batch", "none"]
NORMS: tuple[str, ...] = (
    "batch",
    "conv",
    "conv_batch",
    "spectral",
    "spectral_batch",
    "oni_batch",
    "none",
)
"""Batch normalisation; convolutional normalisation (2103.00673), without and with batch
normalisation after it; a kernel over its largest singular value as a matrix (`nn.SpectralNorm`),
likewise; an orthogonal kernel (`newton_orthogonal`) with batch normalisation; and a bias alone."""
PENALTIES = "penalties"
"""The collection into which layers put `orthogonality` of their kernels."""


def has_batch_norm(norm: Norm) -> bool:
    """Whether batch statistics are a part of it."""
    return norm not in ("conv", "spectral", "none")


class Layer(nn.Module):
    """A convolution padded by half its size, and a normalisation.

    Attributes:
        features: channels that come out.
        size: of the kernel.
        stride: in both directions.
        train: normalise by the batch.
        dtype: of the computation.
        axis_name: over which statistics are shared.
        convolution: how to convolve.
        norm: kind of normalisation.
    """

    features: int
    size: int
    stride: int
    train: bool
    dtype: DTypeLike
    axis_name: str | None
    convolution: Convolution
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[N, H, W, C]` to `[N, H / stride, W / stride, features]`."""
        common = {"dtype": self.dtype, "axis_name": self.axis_name}
        if self.norm in ("conv", "conv_batch"):
            layer = ConvNorm(
                self.features,
                self.size,
                self.stride,
                padding=self.size // 2,
                batch_norm=self.norm == "conv_batch",
                convolution=self.convolution,
                name="ConvNorm",
                **common,
            )
            return layer(x, train=self.train)
        x = self._convolved(x)
        if not has_batch_norm(self.norm):
            return x
        return BatchNorm(use_running_average=not self.train, **common)(x)

    def _convolved(self, x: jax.Array) -> jax.Array:
        product = self.convolution == "product"
        conv = nn.Conv(
            self.features,
            (self.size, self.size),
            self.stride,
            padding=self.size // 2,
            use_bias=not has_batch_norm(self.norm),
            dtype=self.dtype,
            kernel_init=_INIT,
            conv_general_dilated=convolve if product else None,
            name="Conv",
        )
        if self.norm in ("spectral", "spectral_batch"):
            return nn.SpectralNorm(conv, name="SpectralNorm")(x, update_stats=self.train)
        if self.norm == "oni_batch":
            return nn.map_variables(
                lambda layer: layer(x),
                trans_in_fn=_orthogonal,
                init=self.is_initializing(),
            )(conv)
        x = conv(x)
        if self.is_mutable_collection(PENALTIES) and not self.is_initializing():
            kernel = conv.variables["params"]["kernel"]
            self.sow(PENALTIES, "orthogonality", orthogonality(kernel, self.stride))
        return x


def _orthogonal(variables: Any) -> Any:
    """With kernels made orthogonal."""
    return jax.tree.map(lambda leaf: newton_orthogonal(leaf) if leaf.ndim == 4 else leaf, variables)


_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
