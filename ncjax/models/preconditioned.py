r"""Convolutions whose every output channel is an isometry (2103.00673), as pure functions.

The convolution of the inputs with the kernel of one output channel, over the grid of the full
convolution (input size + kernel size - 1) where it is a circular one, is a matrix A_k. The paper
multiplies it by its preconditioner, which is a convolution too:

$$ P_k = (A_k A_k^\top)^{-1/2}, \qquad v_k = F^{-1} \big[ (\textstyle\sum_c |F a_{k,c}|^2)^{-1/2}
   \big], \qquad Q_k = P_k A_k, \quad Q_k Q_k^\top = I. $$

Then the output is cropped to what the padding asks for, and strided. A layer of C_out channels has
a norm between max(1, sqrt(C_out / C_in)) and sqrt(C_out) on that grid: channels are normalised, not
made orthogonal to each other.

Two ways compute the same. "spatial": convolve, then multiply the output's spectrum. "fourier":
transform inputs and kernel, by products with the matrices of the discrete Fourier transform, take
one product of matrices at each frequency, and transform back the outputs that are kept. The second
has fewer operations than the convolution itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.models.convolutions import Convolution, convolve
from ncjax.types import AnyArray

Path = Literal["spatial", "fourier"]
PATHS: tuple[str, ...] = ("spatial", "fourier")
EPSILON = 1e-12
"""Added to the spectrum before its root, so that a kernel of zeros gives zeros."""
_AXES = ("NHWC", "HWIO", "NHWC")


def fastest() -> Path:
    """What is faster here: "fourier" on a CPU, else "spatial"."""
    return "fourier" if jax.default_backend() == "cpu" else "spatial"


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a convolution.

    Attributes:
        size: of the input.
        kernel: size of the kernel, dilation included.
        low: padding before.
        high: padding after.
        stride: between outputs.
    """

    size: int
    kernel: int
    low: int
    high: int
    stride: int

    @property
    def grid(self) -> int:
        """Of the full convolution; more where the padding is wider than that."""
        return self.size + sum(self.full) - self.kernel + 1

    @property
    def full(self) -> tuple[int, int]:
        """Padding of the full convolution, at least that which is asked for."""
        return max(self.kernel - 1, self.low), max(self.kernel - 1, self.high)

    @property
    def outputs(self) -> int:
        """How many are kept."""
        return (self.size + self.low + self.high - self.kernel) // self.stride + 1

    @property
    def places(self) -> np.ndarray:
        """Where they are in the circular convolution."""
        return (self.stride * np.arange(self.outputs) - self.low) % self.grid


def geometry(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> tuple[Axis, ...]:
    """The axes of a convolution.

    Args:
        size: of the input.
        kernel: sizes of the kernel, without dilation.
        strides: along each axis.
        padding: "SAME", "VALID", or (before, after) along each axis.
        dilation: of the kernel.

    Raises:
        InputError: a kernel larger than the padded input.
    """
    spread = [(k - 1) * step + 1 for k, step in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        checks.check_choice("padding", padding, ("SAME", "VALID"))
        padding = lax.padtype_to_pads(size, spread, strides, padding)
    axes = [
        Axis(n, k, low, high, stride)
        for n, k, (low, high), stride in zip(size, spread, padding, strides, strict=True)
    ]
    for axis in axes:
        if axis.kernel > axis.size + axis.low + axis.high:
            got = f"{axis.kernel} wide, dilation included"
            limit = axis.size + axis.low + axis.high
            raise checks.reject("kernel_size", got, f"at most the padded input's {limit}")
    return tuple(axes)


def spectrum(kernel: Float[AnyArray, "*sizes I O"], grid: Sequence[int]) -> Float[Array, "*half O"]:
    """The sum over input channels of |F a|^2, at the frequencies of a real transform.

    Args:
        kernel: dilated already, along one or two axes.
        grid: as large as the kernel or larger.
    """
    kernel = jnp.asarray(kernel)
    axes = tuple(range(len(grid)))
    transformed = jnp.fft.rfftn(kernel, grid, axes=axes)
    return (jnp.square(transformed.real) + jnp.square(transformed.imag)).sum(-2)


def preconditioner(
    kernel: Float[AnyArray, "*sizes I O"], axes: tuple[Axis, ...]
) -> Float[Array, "*half O"]:
    """What the spectrum of each output channel is multiplied by; axes of 1 for a kernel of one tap.

    The paper's code lets no gradient pass: take `lax.stop_gradient` of it.

    Args:
        kernel: dilated already.
        axes: of `geometry`.
    """
    grid = (1,) * len(axes) if pointwise(axes) else tuple(axis.grid for axis in axes)
    return lax.rsqrt(spectrum(kernel, grid) + EPSILON)


def pointwise(axes: tuple[Axis, ...]) -> bool:
    """Whether the kernel has a single tap, whose spectrum is flat."""
    return all(axis.kernel == 1 for axis in axes)


def dilated(kernel: AnyArray, dilation: Sequence[int]) -> jax.Array:
    """The kernel with zeros between its taps."""
    kernel = jnp.asarray(kernel)
    borders = [(0, 0, step - 1) for step in dilation] + [(0, 0, 0)] * 2
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), borders)


def convolve_normalised(
    x: Float[AnyArray, "N *size C"],
    kernel: Float[AnyArray, "*sizes I O"],
    axes: tuple[Axis, ...],
    groups: int,
    factor: Float[AnyArray, "*half O"],
    path: Path,
    convolution: Convolution = "native",
) -> Float[Array, "N *out O"]:
    """The convolution, its output's spectrum multiplied by the preconditioner.

    Args:
        x: images or signals, channels last.
        kernel: dilated already.
        axes: of `geometry`.
        groups: of channels; I = C / groups.
        factor: of `preconditioner`.
        path: "spatial" or "fourier".
        convolution: how to convolve in space; "native" for curvature.
    """
    x, kernel, factor = map(jnp.asarray, (x, kernel, factor))
    if len(axes) == 1:
        flat = Axis(1, 1, 0, 0, 1)
        arguments = x[:, None], kernel[None], (flat, *axes), groups, factor[None]
        return convolve_normalised(*arguments, path, convolution)[:, 0]
    if pointwise(axes):
        pads, strides = tuple((a.low, a.high) for a in axes), tuple(a.stride for a in axes)
        return _convolve(x, kernel * factor[..., None, :], strides, pads, groups, convolution)
    if path == "fourier":
        return _by_fourier(x, kernel, axes, groups, factor)
    return _by_space(x, kernel, axes, groups, factor, convolution)


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    groups: int,
    convolution: Convolution,
) -> jax.Array:
    by = convolve if convolution == "product" else lax.conv_general_dilated
    settings = {"dimension_numbers": _AXES, "feature_group_count": groups}
    return by(x, kernel, strides, pads, **settings)


def _by_space(
    x: jax.Array,
    kernel: jax.Array,
    axes: tuple[Axis, ...],
    groups: int,
    factor: jax.Array,
    convolution: Convolution,
) -> jax.Array:
    pads = tuple(axis.full for axis in axes)
    full = _convolve(x, kernel, (1, 1), pads, groups, convolution)
    grid = tuple(axis.grid for axis in axes)
    spectra = jnp.fft.rfft2(full, axes=(1, 2))
    found = jnp.fft.irfft2(spectra * factor[None].astype(spectra.dtype), grid, axes=(1, 2))
    for place, axis in enumerate(axes, 1):
        start = axis.full[0] - axis.low
        stop = start + (axis.outputs - 1) * axis.stride + 1
        found = lax.slice_in_dim(found, start, stop, axis.stride, place)
    return found


def _by_fourier(
    x: jax.Array, kernel: jax.Array, axes: tuple[Axis, ...], groups: int, factor: jax.Array
) -> jax.Array:
    grid = tuple(axis.grid for axis in axes)
    X = _transformed(x, grid)
    taps = kernel.transpose(2, 0, 1, 3)  # input channels as the batch
    A = _transformed(taps, grid) * factor[:, :, None, None]
    Y = _correlated(X, A, groups)
    return _transformed_back(Y, grid, tuple(axis.places for axis in axes))


def _correlated(X: jax.Array, A: jax.Array, groups: int) -> jax.Array:
    """X times the conjugate of A at each frequency, pairs of real and imaginary parts as one axis.

    Args:
        X: `[g, f, 2, N, C]`.
        A: `[g, f, 2, C / groups, O]`.
        groups: of channels.
    """
    real, imaginary = A[:, :, 0], A[:, :, 1]
    g, f, inputs, outputs = real.shape
    pairs = jnp.concatenate(
        [
            jnp.stack([real, -imaginary], 3),
            jnp.stack([imaginary, real], 3),
        ],
        axis=2,
    )  # [g, f, 2 inputs, 2, outputs]
    if groups == 1:
        both = jnp.concatenate([X[:, :, 0], X[:, :, 1]], -1)
        product = both @ pairs.reshape(g, f, 2 * inputs, 2 * outputs)
        return product.reshape(g, f, -1, 2, outputs).swapaxes(2, 3)
    count = outputs // groups
    split = X.reshape(g, f, 2, -1, groups, inputs)
    weights = pairs.reshape(g, f, 2, inputs, 2, groups, count)
    product = jnp.einsum("gfpnGi,gfpiqGo->gfqnGo", split, weights)
    return product.reshape(g, f, 2, -1, outputs)


def _transformed(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Spectra of `[N, H, W, C]` at rows g and the columns f of a real transform, `[g, f, 2, N, C]`.

    Real and imaginary parts are an axis of their own.
    """
    across = _matrix(grid[1])[: x.shape[2], 0, :, : grid[1] // 2 + 1]
    down = _matrix(grid[0])[: x.shape[1]]
    half = jnp.einsum("nhwc,wpf->nhpfc", x, across.astype(x.dtype))
    return jnp.einsum("nhpfc,hpqg->gfqnc", half, down.astype(x.dtype))


def _transformed_back(
    Y: jax.Array, grid: tuple[int, int], places: tuple[np.ndarray, np.ndarray]
) -> jax.Array:
    """Of spectra `[g, f, 2, N, C]`, the values at some rows and columns, `[N, h, w, C]`."""
    half = grid[1] // 2 + 1
    columns = np.arange(half)
    weight = np.where((columns == 0) | (2 * columns == grid[1]), 1, 2)  # with their conjugates
    down = _matrix(grid[0])[places[0]].transpose(3, 2, 1, 0) / grid[0]
    across = _matrix(grid[1])[places[1], 0, :, :half] * weight / grid[1]
    rows = jnp.einsum("gfqnc,gqph->nhpfc", Y, down.astype(Y.dtype))
    return jnp.einsum("nhpfc,wpf->nhwc", rows, across.astype(Y.dtype))


@functools.lru_cache
def _matrix(size: int) -> np.ndarray:
    """The Fourier transform on pairs of real and imaginary parts, `[place, pair, pair, frequency]`.

    Its transpose over the size is the inverse.
    """
    angles = 2 * np.pi * (np.outer(np.arange(size), np.arange(size)) % size) / size
    cosines, sines = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cosines, -sines], 1), np.stack([sines, cosines], 1)], 1)
