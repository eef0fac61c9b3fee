r"""Coding rates, and the rate reduction that ReduNet ascends (2010.14765, 2105.10446).

For features Z, `[N, d]`, up to a precision eps,

$$R = \tfrac12 \log\det\Bigl(I + \tfrac{d}{N\epsilon^2} Z^\top Z\Bigr), \qquad
  R_c = \sum_j \tfrac{N_j}{2N} \log\det\Bigl(I + \tfrac{d}{N_j\epsilon^2} Z_j^\top Z_j\Bigr),$$

and the rate reduction is R - R_c: large when classes span many directions together and few each.
Signals `[N, T, C]` and images `[N, H, W, C]` stand for all their circular shifts: then d is C, the
determinants are those of the frequencies, and their mean over frequencies is taken.

`eps` is the precision itself. The official code of ReduNet and MCR2 calls its square eps: what is
0.1 there is `eps=0.1**0.5` here. PyPI's `mcr2` means what we mean.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, Num

from ncjax import checks
from ncjax.redunet.groups import counts_of, places_by, rows_of
from ncjax.redunet.spectra import FFTNorm, Spectra, check_features, to_spectra
from ncjax.types import AnyArray, Scalar

_HIGHEST = jax.lax.Precision.HIGHEST


def coding_rate(
    features: Num[AnyArray, "N ..."], eps: Scalar = 0.5, *, fft_norm: FFTNorm = "backward"
) -> Float[jax.Array, ""]:
    """R, in nats: what it takes to code a sample up to the precision, as if Gaussian.

    Args:
        features: `[N, d]`, `[N, T, C]` or `[N, H, W, C]`, on the unit sphere in the papers.
        eps: precision, > 0 (not its square).
        fft_norm: see `ncjax.redunet.Spectra`.

    Raises:
        InputError: unfit shapes, NaN, or eps not positive.

    Examples:
        >>> round(float(coding_rate(jnp.eye(3), eps=1.0)), 4)  # 3/2 log 2
        1.0397
    """
    spectra = _checked(features, eps, fft_norm)
    everyone = jnp.arange(spectra.values.shape[1])[None, :]
    return _rate(spectra, everyone, eps)


def class_coding_rate(
    features: Num[AnyArray, "N ..."],
    labels: Integer[AnyArray, " N"],
    eps: Scalar = 0.5,
    *,
    num_classes: int | None = None,
    largest_class: int | None = None,
    fft_norm: FFTNorm = "backward",
) -> Float[jax.Array, ""]:
    """R_c, in nats: the mean rate of a sample that is coded with its class.

    Args:
        features: as of `coding_rate`.
        labels: class indices.
        eps: precision, > 0.
        num_classes: K; one more than the largest label if None. To be given under `jit`. A class
            without samples adds nothing.
        largest_class: most samples of a class, where labels are traced: then a class costs as much
            as it has samples at most, not as all have. With more the value is NaN.
        fft_norm: see `ncjax.redunet.Spectra`.

    Raises:
        InputError: as of `coding_rate`; labels out of range, or traced without `num_classes`.
    """
    spectra = _checked(features, eps, fft_norm)
    places = places_by(labels, num_classes, largest_class, spectra.values.shape[1])
    return _rate(spectra, places, eps)


def rate_reduction(
    features: Num[AnyArray, "N ..."],
    labels: Integer[AnyArray, " N"],
    eps: Scalar = 0.5,
    *,
    num_classes: int | None = None,
    largest_class: int | None = None,
    fft_norm: FFTNorm = "backward",
) -> Float[jax.Array, ""]:
    """Delta R = R - R_c, in nats; arguments as of `class_coding_rate`.

    Examples:
        >>> round(float(rate_reduction(jnp.eye(2), jnp.array([0, 1]), eps=1.0)), 4)
        0.1438
    """
    settings = {"num_classes": num_classes, "largest_class": largest_class, "fft_norm": fft_norm}
    return coding_rate(features, eps, fft_norm=fft_norm) - class_coding_rate(
        features, labels, eps, **settings
    )


def _checked(features: AnyArray, eps: Scalar, fft_norm: FFTNorm) -> Spectra:
    check_features("features", features)
    checks.check_range("eps", eps, 0.0, closed=False)
    return to_spectra(features, fft_norm)


def _rate(spectra: Spectra, places: AnyArray, eps: Scalar) -> jax.Array:
    """The mean over samples of the rate of the class each is coded with; places `[K, M]`."""
    counts, C = counts_of(spectra, places), spectra.values.shape[-1]
    alphas = C / (jnp.maximum(counts, 1) * jnp.asarray(eps, counts.dtype) ** 2)
    weights = (counts / counts.sum())[:, None] * (spectra.weights / spectra.weights.sum())[None]
    return _mean_rate(spectra, alphas, jnp.asarray(places), weights)


@jax.custom_jvp
def _mean_rate(
    spectra: Spectra, alphas: jax.Array, places: jax.Array, weights: jax.Array
) -> jax.Array:
    """Half the log-determinants of classes `[K]` and frequencies `[F]`, weighted `[K, F]`."""

    def of_class(one: tuple[jax.Array, ...]) -> jax.Array:
        rows, alpha, weight = one
        return half_log_determinants(root(_smaller(rows_of(spectra, rows)), alpha)) @ weight

    return jax.lax.map(of_class, (places, alphas, weights)).sum()


@_mean_rate.defjvp
def _mean_rate_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """By the gradient of the papers, alpha (I + alpha S)^-1 z: one product a class, not four."""
    spectra, alphas, places, weights = primals

    def of_class(slope: jax.Array, one: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        rows, alpha, weight = one
        own = rows_of(spectra, rows)
        roots = root(_smaller(own), alpha)
        inverse = inverse_of(roots)
        scale = (alpha * weight).astype(own.dtype)[:, None, None]
        if own.shape[1] < own.shape[2]:
            moved = jnp.matmul(inverse, own, precision=_HIGHEST)
        else:
            moved = jnp.matmul(own, inverse.swapaxes(-1, -2), precision=_HIGHEST)
        trace = jnp.trace(inverse, axis1=-2, axis2=-1).real
        by_alpha = (inverse.shape[-1] - trace) @ weight / (2 * alpha)
        value = half_log_determinants(roots) @ weight
        return slope.at[:, rows].add(scale * moved, mode="drop"), jnp.stack([value, by_alpha])

    zeros = jnp.zeros_like(spectra.values)
    slope, found = jax.lax.scan(of_class, zeros, (places, alphas, weights))
    along_values = (slope.conj() * tangents[0].values).real.sum()
    return found[:, 0].sum(), along_values + found[:, 1] @ tangents[1]


def _smaller(values: jax.Array) -> jax.Array:
    """The Gram matrix or the covariance, whose determinants are the same."""
    return gram(values) if values.shape[1] < values.shape[2] else covariance(values)


def half_log_determinants(roots: jax.Array) -> jax.Array:
    """Half the log-determinants of matrices whose Cholesky factors `[F, C, C]` are given."""
    return jnp.log(jnp.diagonal(roots, axis1=-2, axis2=-1).real).sum(-1)


def inverse_of(roots: jax.Array) -> jax.Array:
    """The inverse of the matrices whose Cholesky factors are given."""
    identity = jnp.broadcast_to(jnp.eye(roots.shape[-1], dtype=roots.dtype), roots.shape)
    half = jax.lax.linalg.triangular_solve(roots, identity, left_side=True, lower=True)
    return jnp.matmul(half.conj().swapaxes(-1, -2), half, precision=_HIGHEST)


def root(matrices: jax.Array, alpha: jax.Array) -> jax.Array:
    """The Cholesky factor of I + alpha S at each frequency: of `[F, C, C]` and a scalar."""
    identity = jnp.eye(matrices.shape[-1], dtype=matrices.dtype)
    return jnp.linalg.cholesky(identity[None] + alpha.astype(matrices.dtype) * matrices)


def covariance(values: jax.Array) -> jax.Array:
    """The sum of v v^H over the samples at each frequency: `[F, N, C]` to `[F, C, C]`."""
    return jnp.matmul(values.swapaxes(-1, -2), values.conj(), precision=_HIGHEST)


def gram(values: jax.Array) -> jax.Array:
    """Inner products of the samples at each frequency: `[F, N, C]` to `[F, N, N]`."""
    return jnp.matmul(values, values.conj().swapaxes(-1, -2), precision=_HIGHEST)
