r"""Construction from class covariances alone: new classes without old samples (2011.14593).

With the true label in the update and features normalised class by class (||Z_j||_F^2 = N_j), a
layer maps each class linearly, $M_j = I + \eta (E - \gamma_j C^j)$, and its covariance with it. So
the covariances and counts of the first layer determine the whole network: classes, or samples of a
class, that come later are added to them, and the network is that of joint construction.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from ncjax import checks
from ncjax.redunet.groups import counts_of, rows_of
from ncjax.redunet.layers import LayerConfig, Monitor
from ncjax.redunet.operators import Operators, from_covariances
from ncjax.redunet.rates import covariance
from ncjax.redunet.spectra import Spectra
from ncjax.types import AnyArray

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassCovariances:
    """All that is kept of the samples of each class.

    Attributes:
        sums: of v v^H over a class's normalised samples at each frequency, `[K, F, C, C]`.
        counts: samples of each class, `[K]`, as floats.
    """

    sums: jax.Array
    counts: jax.Array

    def merge(self, other: ClassCovariances) -> ClassCovariances:
        """Those of both sets of samples, of the same classes."""
        checks.check_shape("other.sums", other.sums, self.sums.shape, "[K, F, C, C]")
        return ClassCovariances(self.sums + other.sums, self.counts + other.counts)

    def among(self, places: Integer[AnyArray, " K"], num_classes: int) -> ClassCovariances:
        """With classes of no samples between: those here come at these places of so many."""

        def spread(leaf: jax.Array) -> jax.Array:
            return jnp.zeros((num_classes, *leaf.shape[1:]), leaf.dtype).at[places].set(leaf)

        return jax.tree.map(spread, self)


def class_covariances(spectra: Spectra, places: Integer[AnyArray, "K M"]) -> ClassCovariances:
    """The covariances of samples by class.

    Args:
        spectra: of the samples, normalised.
        places: row numbers of each class's samples (`ncjax.redunet.groups.places_of`).
    """

    def of_class(rows: jax.Array) -> jax.Array:
        return covariance(rows_of(spectra, rows))

    sums = jax.lax.map(of_class, jnp.asarray(places))
    return ClassCovariances(sums, counts_of(spectra, places))


def construct_from_covariances(
    kept: ClassCovariances,
    square_weights: Float[jax.Array, " F"],
    config: LayerConfig,
    num_layers: int,
) -> tuple[Operators, Monitor]:
    """Builds a network from what is kept of each class.

    Args:
        kept: of all classes seen.
        square_weights: of the frequencies (`Spectra.square_weights`).
        config: of all layers; its sharpness plays no part.
        num_layers: L.

    Returns:
        The operators of all layers, stacked, and what was seen of the rates.
    """
    counts = kept.counts

    def step(sums: jax.Array, _: None) -> tuple[jax.Array, tuple[Operators, Monitor]]:
        built = from_covariances(sums, counts, square_weights, config.eps)
        operators = built.operators
        scales = (operators.shares * operators.alphas)[:, None, None, None].astype(sums.dtype)
        gradient = operators.expansion[None] - scales * operators.compression
        moves = jnp.eye(sums.shape[-1], dtype=sums.dtype)[None, None] + config.step * gradient
        moved = jnp.matmul(moves, sums, precision=_HIGHEST)
        moved = jnp.matmul(moved, moves.conj().swapaxes(-1, -2), precision=_HIGHEST)
        traces = jnp.trace(moved, axis1=-2, axis2=-1).real @ square_weights
        factors = jnp.where(traces > 0, counts / jnp.where(traces > 0, traces, 1), 0)
        seen = Monitor(built.rate, built.class_rate, None)
        return moved * factors[:, None, None, None].astype(moved.dtype), (operators, seen)

    return jax.lax.scan(step, kept.sums, None, length=num_layers)[1]
