r"""The whole spectrum as a density, by stochastic Lanczos quadrature, and traces by random probes.

For a random unit vector v the measure of its Krylov space, with nodes the Ritz values and weights
the squared FIRST components of the projected matrix's eigenvectors, matches
:math:`v^\top H^j v` for all j below twice the number of steps; its mean over v is the spectral
density. Smoothing it is for the eye, costs no product, and can be chosen afterwards.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.curvature import lanczos
from ncjax.curvature.eigenpairs import LanczosSettings, begin, check_symmetric, lanczos_settings
from ncjax.curvature.program import Function, Local, locate
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over random probes.

    Attributes:
        value: the estimate.
        standard_error: of it, from the spread over probes; NaN for a single probe.
    """

    value: jax.Array
    standard_error: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpectralDensity:
    """A spectral density as point masses, one quadrature per probe.

    Attributes:
        nodes: Ritz values, ascending, `[probes, steps]`.
        weights: their masses, at least 0, `[probes, steps]`; those of a probe sum to 1.
        size: number of eigenvalues p.
    """

    nodes: jax.Array
    weights: jax.Array
    size: int = dataclasses.field(metadata={"static": True})

    def moment(self, order: int) -> Estimate:
        """The mean of the eigenvalues' powers, tr(H^order) / p, with its standard error."""
        return _mean((self.weights * self.nodes**order).sum(1))

    def smooth(self, grid: Float[AnyArray, " G"], width: float | None = None) -> Float[Array, " G"]:
        """The density on a grid, each mass spread by a Gaussian; no product is made.

        Args:
            grid: where, `[G]`.
            width: standard deviation of the Gaussian, in the unit of eigenvalues; a hundredth of
                the nodes' range if None.

        Returns:
            Density per unit of eigenvalue, `[G]`; it integrates to 1.

        Raises:
            InputError: a width that is not positive.
        """
        checks.check_shape("grid", grid, (None,), "[G]")
        span = self.nodes.max() - self.nodes.min()
        width = jnp.where(span > 0, span / 100, 1) if width is None else width
        checks.check_range("width", width, 0.0, closed=False)
        centred = (jnp.asarray(grid, self.nodes.dtype)[:, None] - self.nodes.ravel()[None]) / width
        masses = jnp.exp(-(centred**2) / 2) / (width * np.sqrt(2 * np.pi).item())
        return jnp.matmul(masses, self.weights.ravel()) / len(self.nodes)


def spectral_density(
    f: Function,
    params: Any,
    *,
    num_steps: int = 80,
    num_probes: int = 8,
    key: jax.Array | None = None,
    basis_dtype: Any = None,
) -> SpectralDensity:
    """The spectral density of a Hessian by stochastic Lanczos quadrature.

    Args:
        f: as in `extreme_eigenpairs`.
        params: the point.
        num_steps: products for each probe; at most p are made.
        num_probes: random start vectors. Each costs num_steps products, one after the other.
        key: typed random key; `jax.random.key(0)` if None. Probe i uses `fold_in(key, i)`.
        basis_dtype: as in `extreme_eigenpairs`.

    Returns:
        `SpectralDensity`.

    Raises:
        InputError: as `extreme_eigenpairs`.

    Examples:
        >>> import jax.numpy as jnp
        >>> density = spectral_density(lambda x: (x**2).sum(), jnp.ones(50), num_probes=2)
        >>> print(f"{density.moment(1).value:.3f}")
        2.000
    """
    located = locate(f, params)
    checks.check_count("num_probes", num_probes, 1)
    settings = lanczos_settings(located, 1, num_steps, 1, basis_dtype)
    key = jax.random.key(0) if key is None else key
    nodes, weights, asymmetry, scale = located.run(Quadrature(settings, num_probes), key, 0)
    check_symmetric(asymmetry.max(), scale.max())
    return SpectralDensity(nodes, weights, located.size)


def trace(
    f: Function, params: Any, *, num_probes: int = 100, key: jax.Array | None = None
) -> Estimate:
    """The trace of a Hessian by Hutchinson's estimator: the mean of z'Hz over random signs z.

    Args:
        f: as in `extreme_eigenpairs`.
        params: the point.
        num_probes: random vectors, one product each.
        key: typed random key; `jax.random.key(0)` if None.

    Returns:
        `Estimate`.

    Raises:
        InputError: as `extreme_eigenpairs`.
    """
    return _mean(_probed(f, params, num_probes, key)[0])


def frobenius_norm(
    f: Function, params: Any, *, num_probes: int = 100, key: jax.Array | None = None
) -> Estimate:
    """The Frobenius norm of a Hessian: the root of the mean of ||Hz||^2 over random signs z.

    Args:
        f: as in `extreme_eigenpairs`.
        params: the point.
        num_probes: random vectors, one product each.
        key: typed random key; `jax.random.key(0)` if None.

    Returns:
        `Estimate`; the standard error is that of the square, carried through the root.

    Raises:
        InputError: as `extreme_eigenpairs`.
    """
    square = _mean(_probed(f, params, num_probes, key)[1])
    root = jnp.sqrt(square.value)
    return Estimate(root, square.standard_error / (2 * jnp.where(root > 0, root, 1)))


def _probed(f: Function, params: Any, num_probes: int, key: jax.Array | None) -> Any:
    checks.check_count("num_probes", num_probes, 1)
    key = jax.random.key(0) if key is None else key
    return locate(f, params).run(_Probes(num_probes), key)


def _mean(samples: jax.Array) -> Estimate:
    count = len(samples)
    spread = samples.std(ddof=1) if count > 1 else jnp.full((), jnp.nan, samples.dtype)
    return Estimate(samples.mean(), spread / np.sqrt(count).item())


@dataclasses.dataclass(frozen=True)
class Quadrature:
    """The algorithm: nodes, weights, asymmetry and scale of `num_probes` probes from the first."""

    settings: LanczosSettings
    num_probes: int

    def __call__(self, local: Local, key: jax.Array, first: jax.Array | int) -> tuple:
        """Nodes, weights, asymmetry and scale, each with a leading axis of probes."""

        def probe(number: jax.Array) -> tuple:
            state = begin(self.settings, jax.random.fold_in(key, number), len(local.point))
            state = lanczos.advance(local.product, state, self.settings.num_steps, 1)
            nodes, coefficients = lanczos.ritz(state)
            weights = lanczos.first_weights(state, coefficients)
            exact = self.settings.basis_dtype == self.settings.dtype
            asymmetry = lanczos.asymmetry(state, 1) if exact else jnp.zeros_like(state.scale)
            return nodes, weights, asymmetry, state.scale

        return jax.lax.map(probe, jnp.arange(self.num_probes) + first)


@dataclasses.dataclass(frozen=True)
class _Probes:
    """The algorithm: z'Hz and ||Hz||^2 for random signs z."""

    num_probes: int

    def __call__(self, local: Local, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def probe(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            shape, dtype = local.point.shape, local.point.dtype
            signs = jax.random.rademacher(jax.random.fold_in(key, number), shape, dtype)
            image = local.product(signs)
            return signs @ image, image @ image

        return jax.lax.map(probe, jnp.arange(self.num_probes))
