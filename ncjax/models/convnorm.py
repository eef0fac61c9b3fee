"""Convolutional normalisation as a Flax layer (2103.00673): a convolution and its norm in one."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from ncjax import checks
from ncjax.models import preconditioned
from ncjax.models.convolutions import Convolution
from ncjax.models.depthwise import depthwise, depthwise_fast
from ncjax.models.normalisation import BatchNorm
from ncjax.models.preconditioned import Path
from ncjax.types import AnyArray

Sizes = int | Sequence[int]
AVERAGED_UNTIL = 40_000
"""Steps over which the paper's code lowers the weight of new preconditioners from 1 to LEAST."""
LEAST = 0.01


class ConvNorm(nn.Module):
    """A convolution without bias, its output channels made isometries, and a filter on top.

    It replaces a convolution and the normalisation after it. Multiplying the kernel of an output
    channel leaves the output as it is, so that weight decay acts as on normalised weights. The
    filter on top ("affine" in the paper) and batch normalisation have no bound, hence a network's
    Lipschitz constant has one only without both. The filter starts as the identity, where the
    paper's code has its framework's random start.

    Attributes:
        features: output channels.
        kernel_size: along each axis, one or two of them.
        strides: outputs to keep; those between are computed, and dropped, in the "spatial" path.
        padding: "SAME", "VALID", an integer, or (before, after) along each axis.
        kernel_dilation: between the kernel's taps.
        feature_group_count: groups of channels that are convolved on their own.
        affine: a depthwise convolution of the kernel's size, with bias, on top.
        batch_norm: normalise over the batch after that, as the paper's code does by default.
        through: differentiate through the preconditioner, which is a constant there.
        use_running_average: in inference take the running average of the preconditioner, which the
            paper's code does; by default it is computed from the weights that there are, so that
            channels are exact isometries for inputs of any size.
        algorithm: how it is computed (`ncjax.models.preconditioned`); the fastest here if None.
        convolution: "product" for training on CPUs, "native" elsewhere and for curvature
            (`ncjax.models.convolutions`).
        dtype: of what comes out; the computation is in float32 at least.
        axis_name: over which batch statistics are shared.
        kernel_init: of the convolution.
    """

    features: int
    kernel_size: Sizes = (3, 3)
    strides: Sizes = 1
    padding: str | int | Sequence[tuple[int, int]] = "SAME"
    kernel_dilation: Sizes = 1
    feature_group_count: int = 1
    affine: bool = True
    batch_norm: bool = False
    through: bool = False
    use_running_average: bool = False
    algorithm: Path | None = None
    convolution: Convolution = "native"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
        2.0, "fan_out", "normal"
    )

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "N *size C"], *, train: bool = False
    ) -> Float[Array, "N *out O"]:
        """Images or signals, channels last.

        Args:
            x: a batch.
            train: of batch normalisation and the running average; nothing else differs.

        Raises:
            InputError: complex inputs, a kernel larger than the padded input, or sizes that do not
                fit.
        """
        x = self._real(x)
        count = x.ndim - 2
        sizes, strides, dilation = (
            _each(value, count) for value in (self.kernel_size, self.strides, self.kernel_dilation)
        )
        padding = _padding(self.padding, count)
        axes = preconditioned.geometry(x.shape[1:-1], sizes, strides, padding, dilation)
        groups = self.feature_group_count
        for name, channels in (("inputs", x.shape[-1]), ("features", self.features)):
            if channels % groups:
                accepted = f"a multiple of the {groups} groups"
                raise checks.reject(f"channels of {name}", channels, accepted)
        shape = (*sizes, x.shape[-1] // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        kernel = preconditioned.dilated(kernel.astype(x.dtype), dilation)
        factor = preconditioned.preconditioner(kernel, axes)
        factor = factor if self.through else jax.lax.stop_gradient(factor)
        if self.use_running_average:
            factor = self._averaged(factor, train)
        path = self.algorithm or preconditioned.fastest()
        y = preconditioned.convolve_normalised(
            x, kernel, axes, groups, factor, path, self.convolution
        )
        if self.affine:
            y = self._filtered(y, sizes)
        y = y.astype(self.dtype)
        if self.batch_norm:
            settings = {"dtype": self.dtype, "axis_name": self.axis_name}
            y = BatchNorm(use_running_average=not train, **settings)(y)
        return y

    def _real(self, x: AnyArray) -> jax.Array:
        x = jnp.asarray(x)
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise checks.reject("x", x.dtype, "real")
        if x.ndim not in (3, 4):
            accepted = "[N, W, C] or [N, H, W, C]"
            raise checks.reject("x", f"shape {x.shape}", accepted)
        return x if x.dtype == jnp.float64 else x.astype(jnp.float32)

    def _filtered(self, y: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
        shape = (*sizes, self.features)
        kernel = self.param("filter", _identity, shape, jnp.float32).astype(y.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        filtered = depthwise_fast if self.convolution == "product" else depthwise
        return filtered(y, kernel) + bias.astype(y.dtype)[(None,) * (y.ndim - 1)]

    def _averaged(self, factor: jax.Array, train: bool) -> jax.Array:
        """In training the present one, which joins the average; in inference the average."""
        started = self.has_variable("batch_stats", "preconditioner")
        average = self.variable("batch_stats", "preconditioner", lambda: factor)
        step = self.variable("batch_stats", "step", lambda: jnp.zeros(()))
        if average.value.shape != factor.shape:
            got = f"a grid of {factor.shape[:-1]} frequencies"
            accepted = f"that of training, {average.value.shape[:-1]}"
            remedy = "Leave use_running_average off for inputs of other sizes."
            raise checks.reject("x", got, accepted, remedy)
        if not train:
            return average.value
        if started and not self.is_initializing():
            done = jnp.minimum(step.value, AVERAGED_UNTIL) / AVERAGED_UNTIL
            share = jnp.maximum((1 + jnp.cos(jnp.pi * done)) / 2, LEAST).astype(factor.dtype)
            average.value += share * (jax.lax.stop_gradient(factor) - average.value)
            step.value += 1
        return factor


def _each(value: Sizes, count: int) -> tuple[int, ...]:
    """A number for every axis."""
    values = (value,) * count if isinstance(value, int) else tuple(value)
    for one in values:
        checks.check_count("sizes, strides and dilations", one, 1)
    if len(values) != count:
        accepted = f"one number for each of {count} axes"
        raise checks.reject("sizes, strides and dilations", values, accepted)
    return values


def _padding(value: str | int | Sequence, count: int) -> str | tuple[tuple[int, int], ...]:
    if isinstance(value, str):
        return value
    pairs = ((value, value),) * count if isinstance(value, int) else tuple(map(tuple, value))
    checks.check_range("padding", pairs, 0)
    if len(pairs) != count:
        accepted = f"a pair of numbers for each of {count} axes"
        raise checks.reject("padding", value, accepted)
    return pairs


def _identity(_: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """A filter that leaves everything as it is."""
    centre = tuple((size - 1) // 2 for size in shape[:-1])
    return jnp.zeros(shape, dtype).at[centre].set(1)
