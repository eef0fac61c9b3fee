"""The variance within classes along the directions of the class means: all of it that NC1 needs.

The within-class covariance has d x d entries, and to sum it up takes N d^2 operations. Its part in
the span of the centred class means has at most K - 1 dimensions: once the means are known, a second
pass over the features finds it with N d K operations and K numbers.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from ncjax.metrics.blocks import split
from ncjax.metrics.moments import ClassMoments
from ncjax.types import AnyArray

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeanSpan:
    """The span of the centred class means M = U diag(s) V', and the variance along it.

    Attributes:
        singular: s, `[min(K, d)]`, largest first.
        directions: rows of V', `[min(K, d), d]`.
        variance: v' Sigma_W v for each direction v, `[min(K, d)]`: the mean over all samples of
            `squared_coordinates`; None until it is known.
    """

    singular: jax.Array
    directions: jax.Array
    variance: jax.Array | None = None

    def squared_coordinates(
        self,
        features: Float[AnyArray, "N d"],
        labels: Integer[AnyArray, " N"],
        moments: ClassMoments,
    ) -> Float[jax.Array, "N r"]:
        """The squared coordinates of h - class mean along each direction.

        Args:
            features: h.
            labels: in 0 .. K-1.
            moments: whose means are subtracted.
        """

        def coordinates(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
            h, y = rows
            deviations = (h - moments.origin[y]) - moments.offset[y]
            return jnp.square(jnp.matmul(deviations, self.directions.T, precision=_HIGHEST))

        features = jnp.asarray(features).astype(self.directions.dtype)
        blocks, rest = split((features, jnp.asarray(labels)))
        if blocks is None:
            return coordinates(rest)
        of_blocks = jnp.concatenate(jax.lax.map(coordinates, blocks))
        return jnp.concatenate([of_blocks, coordinates(rest)])


def mean_span(centred_means: Float[AnyArray, "K d"]) -> MeanSpan:
    """The span of the rows.

    Args:
        centred_means: class means less the global mean, as `collapse` centres them
            (`ncjax.metrics.centred_means`).
    """
    _, singular, directions = jnp.linalg.svd(jnp.asarray(centred_means), full_matrices=False)
    return MeanSpan(singular, directions)
