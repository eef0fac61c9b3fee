r"""The two operators of a layer: expansion of all samples, compression of each class.

With $\alpha = C/(N\epsilon^2)$ and the covariances of `ncjax.redunet.rates`,

$$E = \alpha (I + \alpha Z^\top Z)^{-1}, \qquad C^j = \alpha_j (I + \alpha_j Z_j^\top Z_j)^{-1},$$

and the gradient of the rate reduction at a sample z of class j is E z - (N_j/N) C^j z (2105.10446).
Where classes have at most half as many samples as there are channels, they are kept as factors P
with as many rows as samples, $C^j = \alpha_j (I - P^H P)$, which are cheaper to find, to store and
to apply. The rates come with the operators: they are determinants of the same matrices.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ncjax.redunet.groups import counts_of, rows_of
from ncjax.redunet.rates import covariance, gram, half_log_determinants, inverse_of, root
from ncjax.redunet.spectra import Spectra, real_matrix
from ncjax.types import Scalar

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
        """E z; of real forms (`ncjax.redunet.spectra.real_form`), `[F, N, C or 2C]`."""
        return _rows(values, real_matrix(self.expansion))

    def compress(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """C^j z for every class, and its squared length at each frequency.

        Args:
            values: real forms of the samples, `[F, N, C or 2C]`.

        Returns:
            Real forms `[K, F, N, C or 2C]`, and squares `[K, F, N]`.
        """

        def of_class(one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            matrix, alpha = real_matrix(one[0]), one[1]
            found = _rows(values, matrix)
            if self.factored:
                found = values - jnp.matmul(found, matrix, precision=_HIGHEST)
            found = alpha * found
            return found, jnp.square(found).sum(-1)

        # One after the other: XLA's batched products are slower on CPUs.
        return jax.lax.map(of_class, (self.compression, self.alphas))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Built:
    """The operators of a layer and the rates of the samples they were built from.

    Attributes:
        operators: of the layer.
        rate: R, a scalar.
        class_rate: R_c.
    """

    operators: Operators
    rate: jax.Array
    class_rate: jax.Array


def from_covariances(
    covariances: jax.Array,
    counts: Float[jax.Array, " K"],
    weights: Float[jax.Array, " F"],
    eps: Scalar,
) -> Built:
    """Operators from class covariances alone.

    Args:
        covariances: sums of v v^H over the samples of each class, `[K, F, C, C]`.
        counts: samples of each class, as floats.
        weights: of the frequencies (`Spectra.weights`).
        eps: precision.
    """
    C = covariances.shape[-1]
    alphas = _alphas(counts, C, eps)
    roots = jax.vmap(root)(covariances, alphas)
    whole = covariances.sum(0)
    return _built(whole, jax.vmap(inverse_of)(roots), roots, counts, alphas, weights, eps)


def from_samples(spectra: Spectra, places: jax.Array, eps: Scalar) -> Built:
    """Operators from the samples, in factors where those are smaller.

    Args:
        spectra: of all samples.
        places: row numbers of each class's samples, filled up with N, int32 `[K, M]`.
        eps: precision.
    """
    values = spectra.values
    C = values.shape[-1]
    counts = counts_of(spectra, places)
    if not is_factored(places.shape[1], C):
        covariances = jax.lax.map(lambda rows: covariance(rows_of(spectra, rows)), places)
        return from_covariances(covariances, counts, spectra.weights, eps)
    groups = jax.vmap(rows_of, (None, 0))(spectra, places)
    alphas = _alphas(counts, C, eps)
    roots = jax.vmap(root)(jax.vmap(gram)(groups.conj()), alphas)
    factors = jax.vmap(_factor)(roots, groups, alphas)
    return _built(covariance(values), factors, roots, counts, alphas, spectra.weights, eps)


def is_factored(largest_class: int, channels: int) -> bool:
    """Whether compression operators are kept as factors."""
    return 2 * largest_class <= channels


def _built(
    whole: jax.Array,
    compression: jax.Array,
    roots: jax.Array,
    counts: jax.Array,
    alphas: jax.Array,
    weights: jax.Array,
    eps: Scalar,
) -> Built:
    """Adds the expansion, and the rates of all samples and of each class."""
    alpha = _alphas(counts.sum(), whole.shape[-1], eps)
    whole_root = root(whole, alpha)
    shares = counts / counts.sum()
    operators = Operators(
        expansion=alpha.astype(whole.dtype) * inverse_of(whole_root),
        compression=compression,
        alphas=alphas,
        shares=shares,
        factored=compression.shape[-2] < compression.shape[-1],
    )
    weights = weights / weights.sum()
    class_rates = jax.vmap(half_log_determinants)(roots) @ weights
    return Built(operators, half_log_determinants(whole_root) @ weights, shares @ class_rates)


def _rows(values: jax.Array, matrix: jax.Array) -> jax.Array:
    """The matrix times each sample, samples being rows."""
    return jnp.matmul(values, matrix.swapaxes(-1, -2), precision=_HIGHEST)


def _alphas(counts: jax.Array, channels: int, eps: Scalar) -> jax.Array:
    """alpha_j = C / (N_j eps^2), 0 of an empty class."""
    return jnp.where(counts > 0, channels / (jnp.maximum(counts, 1) * eps**2), 0)


def _factor(roots: jax.Array, samples: jax.Array, alpha: jax.Array) -> jax.Array:
    """P with (I + alpha S)^-1 = I - P^H P, by Woodbury; of the samples of a class `[F, M, C]`."""
    solved = jax.lax.linalg.triangular_solve(roots, samples.conj(), left_side=True, lower=True)
    return jnp.sqrt(alpha).astype(samples.dtype) * solved
