r"""The two operators of a layer: expansion of all samples, compression of each class.

With $\alpha = C/(N\epsilon^2)$ and the covariances of `ncjax.redunet.rates`,

$$E = \alpha (I + \alpha Z^\top Z)^{-1}, \qquad C^j = \alpha_j (I + \alpha_j Z_j^\top Z_j)^{-1},$$

and the gradient of the rate reduction at a sample z of class j is E z - (N_j/N) C^j z (2105.10446).
A class of fewer samples than channels is kept as a factor P with as many rows as samples,
$C^j = \alpha_j (I - P^H P)$, which is cheaper to find, to store and to apply.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ncjax.redunet.rates import covariance
from ncjax.redunet.spectra import Spectra

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Operators:
    """Those of a layer; stacked along a leading axis, those of a network.

    Attributes:
        expansion: E at each frequency, `[F, C, C]`.
        compression: C^j over alpha_j, `[K, F, C, C]`, or the factors P, `[K, F, M, C]`.
        alphas: alpha_j, `[K]`; 0 of an empty class.
        shares: gamma_j = N_j/N, `[K]`.
        factored: which of the two `compression` is.
    """

    expansion: jax.Array
    compression: jax.Array
    alphas: jax.Array
    shares: jax.Array
    factored: bool = dataclasses.field(metadata={"static": True})

    def expand(self, values: jax.Array) -> jax.Array:
        """E z, `[F, N, C]`."""
        return _rows(values, self.expansion)

    def compress(self, values: jax.Array) -> jax.Array:
        """C^j z for every class, `[K, F, N, C]`."""
        scale = self.alphas[:, None, None, None].astype(values.dtype)
        if not self.factored:
            return scale * _rows(values[None], self.compression)
        inner = _rows(values[None], self.compression)
        back = jnp.matmul(inner, self.compression.conj(), precision=_HIGHEST)
        return scale * (values[None] - back)


def _rows(values: jax.Array, matrix: jax.Array) -> jax.Array:
    """The matrix times each sample, samples being rows."""
    return jnp.matmul(values, matrix.swapaxes(-1, -2), precision=_HIGHEST)


def expansion_of(covariances: jax.Array, alpha: jax.Array) -> jax.Array:
    """alpha (I + alpha S)^-1 at each frequency; of `[F, C, C]` and a scalar."""
    return alpha.astype(covariances.dtype) * _inverse(covariances, alpha)


def from_covariances(
    covariances: jax.Array, counts: Float[jax.Array, " K"], eps: float
) -> Operators:
    """Operators from class covariances alone.

    Args:
        covariances: sums of v v^H over the samples of each class, `[K, F, C, C]`.
        counts: samples of each class, as floats.
        eps: precision.
    """
    C = covariances.shape[-1]
    alphas = alphas_of(counts, C, eps)
    return Operators(
        expansion=expansion_of(covariances.sum(0), alphas_of(counts.sum(), C, eps)),
        compression=jax.vmap(_inverse)(covariances, alphas),
        alphas=alphas,
        shares=counts / counts.sum(),
        factored=False,
    )


def from_samples(spectra: Spectra, places: jax.Array, eps: float) -> Operators:
    """Operators from the samples, in factors where those are smaller.

    Args:
        spectra: of all samples.
        places: row numbers of each class's samples, filled up with N, int32 `[K, M]`.
        eps: precision.
    """
    values = spectra.values
    N, C = values.shape[1:]
    counts = (places < N).sum(1).astype(spectra.weights.dtype)
    groups = values.at[:, places].get(mode="fill", fill_value=0).swapaxes(0, 1)
    if places.shape[1] >= C:
        return from_covariances(covariance(groups), counts, eps)
    alphas = alphas_of(counts, C, eps)
    return Operators(
        expansion=expansion_of(covariance(values), alphas_of(counts.sum(), C, eps)),
        compression=jax.vmap(_factor)(groups, alphas),
        alphas=alphas,
        shares=counts / N,
        factored=True,
    )


def alphas_of(counts: jax.Array, channels: int, eps: float) -> jax.Array:
    """alpha_j = C / (N_j eps^2), 0 of an empty class."""
    return jnp.where(counts > 0, channels / (jnp.maximum(counts, 1) * eps**2), 0)


def _inverse(covariances: jax.Array, alpha: jax.Array) -> jax.Array:
    """(I + alpha S)^-1."""
    identity = jnp.eye(covariances.shape[-1], dtype=covariances.dtype)
    root = jnp.linalg.cholesky(identity[None] + alpha.astype(covariances.dtype) * covariances)
    half = jax.lax.linalg.triangular_solve(
        root, jnp.broadcast_to(identity, root.shape), left_side=True, lower=True
    )
    return jnp.matmul(half.conj().swapaxes(-1, -2), half, precision=_HIGHEST)


def _factor(samples: jax.Array, alpha: jax.Array) -> jax.Array:
    """P with (I + alpha S)^-1 = I - P^H P, by Woodbury; of the samples of a class `[F, M, C]`."""
    conjugate = samples.conj()
    products = jnp.matmul(conjugate, samples.swapaxes(-1, -2), precision=_HIGHEST)
    identity = jnp.eye(samples.shape[-2], dtype=samples.dtype)
    root = jnp.linalg.cholesky(identity[None] + alpha.astype(samples.dtype) * products)
    solved = jax.lax.linalg.triangular_solve(root, conjugate, left_side=True, lower=True)
    return jnp.sqrt(alpha).astype(samples.dtype) * solved
