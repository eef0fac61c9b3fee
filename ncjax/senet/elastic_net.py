r"""The elastic net of self-expression: its objective, how optimal coefficients are, exact ones.

A point x is written in all others, the rows of X, by (2110.04318)

$$\min_c\; P(c) = \tfrac{\gamma}{2} \|x - X^\top c\|^2 + \lambda \|c\|_1
  + \tfrac{1-\lambda}{2} \|c\|^2 .$$
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer
from sklearn.linear_model import ElasticNet as Lasso

from ncjax import checks
from ncjax.types import AnyArray, Scalar

_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class ElasticNet:
    """The two weights of the objective.

    Attributes:
        gamma: of the residual (200 for images in the official code).
        lam: lambda, of the l1 norm against half the squared l2 norm, in (0, 1).
    """

    gamma: float = 200.0
    lam: float = 0.9

    def check(self) -> None:
        """Refuses weights without a strongly convex, sparse problem.

        Raises:
            InputError: gamma not positive, or lam outside (0, 1).
        """
        checks.check_range("gamma", self.gamma, 0.0, closed=False)
        checks.check_range("lam", self.lam, 0.0, 1.0, closed=False)

    def penalty(self, coefficients: jax.Array) -> jax.Array:
        """What each coefficient costs, lambda |c| + (1 - lambda)/2 c^2."""
        absolute = jnp.abs(coefficients)
        return self.lam * absolute + (1 - self.lam) / 2 * jnp.square(coefficients)

    def value(self, coefficients: jax.Array, residuals: jax.Array) -> jax.Array:
        """P of each point, `[B]`, from its coefficients `[B, N]` and residual `[B, D]`."""
        fit = self.gamma / 2 * jnp.square(residuals).sum(-1)
        return fit + self.penalty(coefficients).sum(-1)


def soft_threshold(values: jax.Array, offset: Scalar) -> jax.Array:
    """sign(t) max(|t| - b, 0)."""
    return jnp.sign(values) * jnp.maximum(jnp.abs(values) - offset, 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Optimality:
    """How far coefficients are from the exact ones, for each of B points.

    Attributes:
        objective: P(c), `[B]`.
        minimum: P of the exact coefficients, `[B]`.
        kkt_residual: the norm of the smallest subgradient of P at c, `[B]`: 0 at the minimum, and
            (1 - lambda) ||c - c*|| at least.
        relative_error: ||c - c*|| / ||c*||, `[B]`; infinite where c* is zero and c is not.
    """

    objective: jax.Array
    minimum: jax.Array
    kkt_residual: jax.Array
    relative_error: jax.Array

    @property
    def excess(self) -> float:
        """Mean of P(c) over that of its minimum, less 1."""
        return float(np.mean(self.objective) / np.mean(self.minimum) - 1)


def optimality(
    net: ElasticNet,
    points: Float[AnyArray, "B D"],
    keys: Float[AnyArray, "N D"],
    coefficients: Float[AnyArray, "B N"],
    exact: Float[AnyArray, "B N"],
    own: Bool[AnyArray, "B N"],
) -> Optimality:
    """Measures coefficients against exact ones.

    Args:
        net: the weights.
        points: that are written.
        keys: all points.
        coefficients: to be measured; zero where `own`.
        exact: of `exact_coefficients`.
        own: where a point meets itself, which has no coefficient.
    """
    points, keys, coefficients, exact = map(jnp.asarray, (points, keys, coefficients, exact))

    def residuals(c: jax.Array) -> jax.Array:
        return points - jnp.matmul(c, keys, precision=_HIGHEST)

    left = residuals(coefficients)
    inner = net.gamma * jnp.matmul(left, keys.T, precision=_HIGHEST)
    smooth = (1 - net.lam) * coefficients - inner
    slopes = jnp.where(
        coefficients == 0,
        soft_threshold(smooth, net.lam),
        smooth + net.lam * jnp.sign(coefficients),
    )
    apart = jnp.linalg.norm(coefficients - exact, axis=1)
    return Optimality(
        objective=net.value(coefficients, left),
        minimum=net.value(exact, residuals(exact)),
        kkt_residual=jnp.linalg.norm(jnp.where(own, 0, slopes), axis=1),
        relative_error=jnp.where(apart > 0, apart / jnp.linalg.norm(exact, axis=1), 0),
    )


def exact_coefficients(
    net: ElasticNet,
    points: Float[AnyArray, "N D"],
    rows: Integer[AnyArray, " B"],
    *,
    tolerance: float = 1e-5,
    max_iter: int = 100_000,
) -> np.ndarray:
    """The elastic net's solutions for some of the points, by scikit-learn's coordinate descent.

    Args:
        net: the weights.
        points: all points.
        rows: numbers of those to be written in all others.
        tolerance: P exceeds its minimum by no more than gamma times this share of the point's
            squared length.
        max_iter: sweeps over the coordinates.

    Returns:
        Coefficients `[B, N]`, float64, each point's own being zero.

    Raises:
        InputError: unfit weights, points that are not `[N, D]` or not finite, a row that is not
            there.
    """
    net.check()
    checks.check_shape("points", points, (None, None), "[N, D]")
    checks.check_finite("points", points)
    outside = [row for row in np.asarray(rows).tolist() if not 0 <= row < len(points)]
    if outside:
        raise checks.reject("rows", outside[0], f"row numbers from 0 to {len(points) - 1}")
    keys = np.array(points, np.float64, order="C").T  # [D, N], one column a point; a copy
    D = len(keys)
    # Scikit-learn divides the squared residual by the number of equations, D.
    settings = {"alpha": 1 / (net.gamma * D), "l1_ratio": net.lam, "fit_intercept": False}
    solver = Lasso(**settings, tol=tolerance, max_iter=max_iter, copy_X=False)
    found = np.zeros((len(rows), keys.shape[1]))
    for place, row in enumerate(np.asarray(rows)):
        point = keys[:, row].copy()
        keys[:, row] = 0  # a point of no length takes no coefficient
        found[place] = solver.fit(keys, point).coef_
        keys[:, row] = point
    return found
