"""Features at every frequency: where shift-invariant operators are block diagonal.

A circulant operator on signals of C channels at T positions is, after a Fourier transform over the
positions, one C x C matrix a frequency (2105.10446). Features that are vectors have one frequency,
so all of rate reduction is written once, for `[F, N, C]`. Of real signals half the frequencies are
kept: those of the other half are their conjugates, and count through `weights`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks
from ncjax.types import AnyArray

FFTNorm = Literal["backward", "ortho"]
SMALLEST_NORM = 1e-8
"""That is divided by; the derivative of a norm is taken to be zero below."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spectra:
    """Features of N samples at F frequencies.

    Attributes:
        values: `[F, N, C]`, complex for signals and images, real for vectors (F = 1).
        weights: how many of all T frequencies each one stands for, `[F]`; they sum to T.
        positions: sizes of the axes that were transformed, `()` for vectors.
        fft_norm: "backward", with which the operators are those of all shifts of the samples, or
            "ortho", the convention of the official code, whose covariances are T times smaller.
    """

    values: jax.Array
    weights: jax.Array
    positions: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    fft_norm: FFTNorm = dataclasses.field(default="backward", metadata={"static": True})

    @property
    def square_weights(self) -> jax.Array:
        """Weights with which squares over frequencies add up to squares over positions, `[F]`."""
        size = 1 if self.fft_norm == "ortho" else max(1, int(np.prod(self.positions)))
        return self.weights / size

    def norms(self) -> jax.Array:
        """The norm of each sample over all channels and positions, at least 1e-8, `[N]`."""
        squares = jnp.square(real_form(self.values)).sum(-1)
        return jnp.sqrt(jnp.maximum(self.square_weights @ squares, SMALLEST_NORM**2))

    def replace(self, values: jax.Array) -> Spectra:
        """Other values at the same frequencies."""
        return dataclasses.replace(self, values=values)


def to_spectra(features: AnyArray, fft_norm: FFTNorm = "backward") -> Spectra:
    """The Fourier transform over all axes between samples and channels.

    Args:
        features: real, `[N, d]`, `[N, T, C]` or `[N, H, W, C]`; integers become floats.
        fft_norm: see `Spectra`.
    """
    features = floating(features)
    positions = features.shape[1:-1]
    dtype = features.dtype
    if not positions:
        return Spectra(features[None], jnp.ones(1, dtype), (), fft_norm)
    axes = tuple(range(1, features.ndim - 1))
    values = jnp.fft.rfftn(features, axes=axes, norm=fft_norm)
    half = values.shape[-2]
    counted = np.full(half, 2.0)
    counted[0] = 1
    if positions[-1] % 2 == 0:
        counted[-1] = 1
    weights = np.broadcast_to(counted, values.shape[1:-1]).ravel()
    flat = values.reshape(len(features), -1, features.shape[-1]).swapaxes(0, 1)
    return Spectra(flat, jnp.asarray(weights, dtype), positions, fft_norm)


def floating(array: AnyArray) -> jax.Array:
    """The array, of floating point if it was not."""
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def from_spectra(spectra: Spectra) -> jax.Array:
    """Features at every position, `[N, *positions, C]`."""
    if not spectra.positions:
        return spectra.values[0]
    positions = spectra.positions
    half = positions[-1] // 2 + 1
    values = spectra.values.swapaxes(0, 1)
    values = values.reshape(len(values), *positions[:-1], half, values.shape[-1])
    axes = tuple(range(1, values.ndim - 1))
    return jnp.fft.irfftn(values, s=positions, axes=axes, norm=spectra.fft_norm)


def real_form(values: jax.Array) -> jax.Array:
    """Real and imaginary parts side by side: `[..., C]` to `[..., 2C]`; real ones as they are.

    Products of real matrices are faster than complex ones on CPUs, and one code serves both.
    """
    if not jnp.iscomplexobj(values):
        return values
    return jnp.concatenate([values.real, values.imag], -1)


def complex_form(values: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The inverse of `real_form`, for values of that type."""
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return values
    return jax.lax.complex(*jnp.split(values, 2, -1))


def real_matrix(matrix: jax.Array) -> jax.Array:
    """The matrix `[..., 2M, 2C]` that acts on real forms as `[..., M, C]` does on values."""
    if not jnp.iscomplexobj(matrix):
        return matrix
    return jnp.concatenate(
        [
            jnp.concatenate([matrix.real, -matrix.imag], -1),
            jnp.concatenate([matrix.imag, matrix.real], -1),
        ],
        -2,
    )


def check_features(argument: str, features: AnyArray) -> None:
    """Refuses what is neither vectors, signals nor images, or not finite.

    Raises:
        InputError: naming the argument.
    """
    shape = np.shape(features)
    if len(shape) not in (2, 3, 4) or 0 in shape:
        accepted = "of shape [N, d], [N, T, C] or [N, H, W, C], not empty"
        raise checks.reject(argument, f"shape {shape}", accepted)
    checks.check_finite(argument, features)
