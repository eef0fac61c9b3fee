"""Convolutions and pooling that are also fast on a CPU.

XLA's CPU backend has fast convolutions for one order of axes only, and inside loops it does not
bring the gradients of others into that order: there they run twenty times slower. And it computes
the gradient of a convolution's kernel several times slower than a matrix product of as many
operations. `convolve` has the values of `lax.conv_general_dilated` and gradients of its own: that
of the input as a convolution in the fast order; that of the kernel as one product, in which shifts
of the padded input along one axis and of the output's gradient along the other hold every tap, with
2 k copies in place of k^2. `max_pool` takes the maximum of strided slices.

`convolve` has a reverse rule of its own, which forward-mode differentiation does not pass: for
Hessians and Gauss-Newton products take the native convolution.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Convolution = Literal["native", "product"]
"""How a model convolves: by `lax` alone, or by `convolve`."""
_AXES = ("NHWC", "HWIO", "NHWC")
_FEW = 4  # channels below which a product has nothing to work with
_CHUNK = 4 * 2**20  # bytes of shifted inputs at once; more no longer fit the cache

Pads = tuple[tuple[int, int], tuple[int, int]]


def fastest() -> Convolution:
    """What training should use here: "product" on a CPU, else "native"."""
    return "product" if jax.default_backend() == "cpu" else "native"


def convolve(
    lhs: Float[Array, "N H W C"],
    rhs: Float[Array, "h w I O"],
    window_strides: Sequence[int],
    padding: Any,
    **settings: Any,
) -> Float[Array, "N P Q O"]:
    """`lax.conv_general_dilated` in two dimensions, for `flax.linen.Conv(conv_general_dilated=)`.

    Args:
        lhs: images.
        rhs: kernel.
        window_strides: along height and width.
        padding: as `lax` takes it.
        **settings: the other arguments; dilated and grouped convolutions are left to `lax`.
    """
    groups = settings.get("feature_group_count", 1)
    dilations = (*settings.get("lhs_dilation", (1,)), *settings.get("rhs_dilation", (1,)))
    if lhs.ndim != 4 or groups != 1 or set(dilations) != {1}:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **settings)
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    return _convolve(lhs, rhs, strides, tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_AXES)


def _forward(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, strides, pads), (x, kernel)


def _backward(
    strides: tuple[int, ...], pads: Pads, saved: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return (
        _input_gradient(slope, kernel, x.shape, strides, pads),
        _kernel_gradient(x, slope, kernel.shape, strides, pads),
    )


_convolve.defvjp(_forward, _backward)


def _input_gradient(
    slope: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    pads: Pads,
) -> jax.Array:
    """The slope, spread apart by the strides, convolved with the mirrored kernel."""
    borders = []
    for axis, (size, stride, (low, _)) in enumerate(zip(shape[1:3], strides, pads, strict=True)):
        before = kernel.shape[axis] - 1 - low
        spread = (slope.shape[1 + axis] - 1) * stride + 1
        borders.append((before, size + kernel.shape[axis] - 1 - spread - before, stride - 1))
    spread = lax.pad(slope, jnp.zeros((), slope.dtype), ((0, 0, 0), *borders, (0, 0, 0)))
    mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    if kernel.shape[:2] == (1, 1):
        return jnp.einsum("nrco,oi->nrci", spread, mirrored[0, 0])
    none = ((0, 0), (0, 0))
    return lax.conv_general_dilated(spread, mirrored, (1, 1), none, dimension_numbers=_AXES)


def _kernel_gradient(
    x: jax.Array,
    slope: jax.Array,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    pads: Pads,
) -> jax.Array:
    """Summed over chunks of the batch."""
    if shape[2] < _FEW and strides == (1, 1):
        return _by_convolution(jnp.pad(x, ((0, 0), *pads, (0, 0))), slope)
    most = max(1, _CHUNK // (x.dtype.itemsize * shape[1] * x[0].size))
    chunks = next(n for n in range(-(-len(x) // most), len(x) + 1) if len(x) % n == 0)
    of_chunk = _by_shifts if strides == (1, 1) else _by_patches

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        part = jnp.pad(pair[0], ((0, 0), *pads, (0, 0)))
        return total + of_chunk(part, pair[1], shape, strides), None

    parts = [part.reshape(chunks, -1, *part.shape[1:]) for part in (x, slope)]
    return lax.scan(add, jnp.zeros(shape, x.dtype), tuple(parts))[0]


def _by_shifts(
    x: jax.Array, slope: jax.Array, shape: tuple[int, ...], _: tuple[int, ...]
) -> jax.Array:
    """Column shifts of x, row shifts of the slope; one product holds all pairs of them."""
    h, w, channels, out = shape
    rows, columns = x.shape[1], slope.shape[2]
    across = jnp.concatenate([x[:, :, j : j + columns] for j in range(w)], axis=-1)
    padded = jnp.pad(slope, ((0, 0), (h - 1, h - 1), (0, 0), (0, 0)))
    down = jnp.concatenate([padded[:, h - 1 - i : h - 1 - i + rows] for i in range(h)], axis=-1)
    product = jnp.einsum("nrca,nrcb->ab", across, down)
    return product.reshape(w, channels, h, out).transpose(2, 0, 1, 3)


def _by_convolution(x: jax.Array, slope: jax.Array) -> jax.Array:
    """The batch as channels, the slope as kernel."""
    swapped = x.transpose(3, 1, 2, 0), slope.transpose(1, 2, 0, 3)
    gradient = lax.conv_general_dilated(*swapped, (1, 1), "VALID", dimension_numbers=_AXES)
    return gradient.transpose(1, 2, 0, 3)


def _by_patches(
    x: jax.Array, slope: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]
) -> jax.Array:
    """All shifts of x, as far apart as the strides."""
    _, rows, columns, _ = slope.shape
    taps = [
        x[:, i : i + rows * strides[0] : strides[0], j : j + columns * strides[1] : strides[1]]
        for i in range(shape[0])
        for j in range(shape[1])
    ]
    taps = [tap[:, :rows, :columns] for tap in taps]
    return jnp.einsum("nrca,nrcb->ab", jnp.concatenate(taps, axis=-1), slope).reshape(shape)


def max_pool(
    x: Float[Array, "N H W C"], window: int, stride: int, padding: int = 0
) -> Float[Array, "N P Q C"]:
    """The maximum over square windows, as of strided slices.

    At a tie the gradient is shared among those that are largest.

    Args:
        x: images.
        window: its side.
        stride: between windows.
        padding: of minus infinity on all sides.
    """
    x = jnp.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), constant_values=-jnp.inf)
    rows, columns = ((size - window) // stride + 1 for size in x.shape[1:3])
    slices = [
        x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(window)
        for j in range(window)
    ]
    return functools.reduce(jnp.maximum, slices)
