r"""SOP of a linear model: where it ends, exactly (2202.14026, its theoretical part).

Labels y = J theta* + s*, with J of low rank and s* sparse, are fitted by gradient descent on

$$ \tfrac12 \|J\theta + u \odot u - v \odot v - y\|^2, \qquad
   \theta_0 = 0,\; u_0 = v_0 = \gamma 1, $$

with step $\tau$ for theta and $\alpha\tau$ for u and v (`descend`). As $\gamma \to 0$ it ends at

$$ \min_{\theta, s}\; \tfrac12\|\theta\|^2 + \lambda \|s\|_1
   \quad\text{where}\quad J\theta + s = y, \qquad \lambda = -\log\gamma / (2\alpha), $$

so that the ratio of the learning rates is the weight of an L1 norm (`sparsity_weight`).

Our derivation goes further, to any $\gamma$. Let $R$ be the residual and $\nu = -\int R\,dt$. Under
gradient flow $\theta = J^\top\nu$, $u = \gamma e^{2\alpha\nu}$, $v = \gamma e^{-2\alpha\nu}$, hence
$s = 2\gamma^2\sinh 4\alpha\nu$, and $\nu$ itself descends a strictly convex function,

$$ \dot\nu = y - JJ^\top\nu - 2\gamma^2\sinh 4\alpha\nu = -\nabla\Phi(\nu), \qquad
   \Phi(\nu) = \tfrac12\|J^\top\nu\|^2 + \tfrac{\gamma^2}{2\alpha}\textstyle\sum_i
   \cosh 4\alpha\nu_i - \langle y, \nu\rangle. $$

Its one minimiser is where the flow ends, and Newton's method is there in milliseconds (`limit`).
$\Phi$ is the dual of the problem above with the L1 norm replaced by a smooth one that is close to
it, $\frac{1}{4\alpha}\sum_i [s_i \operatorname{arsinh}(s_i / 2\gamma^2) - \sqrt{s_i^2 +
4\gamma^4}]$.

Use float64. For speed give J in coordinates of its row space, `[N, r]`: nothing leaves that space.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ncjax import checks
from ncjax.types import AnyArray, Scalar

STAGES = 16
"""From a smooth problem to the one that is asked for, in `limit`."""
STEPS_PER_STAGE = 4
MOST_STEPS = 100
HALVINGS = 12
TOLERANCE = 1e-12
FLAT = 1e-11
"""Least curvature of the cosh in a Newton step, over the mean squared length of J's rows: below,
what a step would gain is lost to rounding."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recovery:
    """What is found of theta and the sparse errors.

    Attributes:
        theta: `[p]`.
        s: errors of the labels, `[N]`.
        residual: the largest of |J theta + s - y| over the largest of |y|.
        converged: whether that is below 1e-6.
    """

    theta: Float[Array, " p"]
    s: Float[Array, " N"]
    residual: Float[Array, ""]
    converged: Bool[Array, ""]


def sparsity_weight(gamma: Scalar, alpha: Scalar) -> Scalar:
    """The weight lambda = -log(gamma) / (2 alpha) of the L1 norm that SOP is equivalent to.

    Args:
        gamma: start of u and v, below 1.
        alpha: learning rate of u and v over that of theta.

    Examples:
        >>> round(sparsity_weight(1e-8, 10), 3)
        0.921
    """
    if checks.is_concrete(gamma) and checks.is_concrete(alpha):
        _check_start(gamma, alpha)
        return -math.log(gamma) / (2 * alpha)
    return -jnp.log(gamma) / (2 * alpha)


def descend(
    J: Float[AnyArray, "N p"],
    y: Float[AnyArray, " N"],
    *,
    gamma: Scalar = 1e-8,
    alpha: Scalar = 10.0,
    steps: int = 100_000,
    step_size: Scalar | None = None,
) -> Recovery:
    """Gradient descent, as the theorem has it.

    A small error s_i takes about lambda / (step_size |s_i|) steps to appear.

    Args:
        J: the linear model.
        y: labels.
        gamma: start of u and v.
        alpha: their learning rate over that of theta.
        steps: of gradient descent; may be traced.
        step_size: tau; 0.3 / (|J|^2 + 8 alpha max |y|) if None, below a third of what curvature
            allows.

    Returns:
        Where it is then.

    Raises:
        InputError: shapes that do not fit, values that are not finite, gamma outside (0, 1), or an
            alpha that is not positive.
    """
    _check(J, y, gamma, alpha)
    J, y = jnp.asarray(J), jnp.asarray(y)
    tau = _step_size(J, y, alpha) if step_size is None else step_size

    def step(_: jax.Array, at: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        theta, u, v = at
        R = J @ theta + u * u - v * v - y
        slope = 2 * alpha * tau * R
        return theta - tau * (J.T @ R), u * (1 - slope), v * (1 + slope)

    start = jnp.full_like(y, gamma)
    theta, u, v = jax.lax.fori_loop(0, steps, step, (jnp.zeros_like(J[0]), start, start))
    return _recovery(J, y, theta, u * u - v * v)


def _step_size(J: jax.Array, y: jax.Array, alpha: Scalar) -> jax.Array:
    gram = J.T @ J if J.shape[0] > J.shape[1] else J @ J.T
    return 0.3 / (jnp.linalg.norm(gram, 2) + 8 * alpha * jnp.abs(y).max())


def limit(
    J: Float[AnyArray, "N p"],
    y: Float[AnyArray, " N"],
    *,
    gamma: Scalar = 1e-8,
    alpha: Scalar = 10.0,
) -> Recovery:
    """Where gradient flow ends, by Newton's method on Phi.

    The cosh is as steep as exp(4 alpha |nu|): Newton's method starts with a gentle one that is as
    large at lambda, and makes it steeper in stages.

    Args:
        J: the linear model; a step solves a system of p equations.
        y: labels.
        gamma: start of u and v.
        alpha: their learning rate over that of theta.

    Raises:
        InputError: as for `descend`.
    """
    _check(J, y, gamma, alpha)
    J, y = jnp.asarray(J), jnp.asarray(y)
    weight = -jnp.log(gamma) / (2 * alpha)
    last = 4.0 * alpha
    grades = (last * weight) ** (jnp.arange(STAGES, dtype=y.dtype) / STAGES) / weight

    def stage(nu: jax.Array, grade: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.fori_loop(
            0, STEPS_PER_STAGE, lambda _, at: _newton(J, y, at, grade, weight)[0], nu
        ), None

    nu, _ = jax.lax.scan(stage, jnp.zeros_like(y), grades)

    def going_on(at: tuple[jax.Array, ...]) -> jax.Array:
        number, _, left = at
        return (number < MOST_STEPS) & (left > TOLERANCE * jnp.abs(y).max())

    def again(at: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return at[0] + 1, *_newton(J, y, at[1], last, weight)

    _, nu, _ = jax.lax.while_loop(going_on, again, (0, nu, jnp.full_like(y[0], jnp.inf)))
    return _recovery(J, y, J.T @ nu, _errors(nu, last, weight))


def _errors(nu: jax.Array, grade: Scalar, weight: Scalar) -> jax.Array:
    """s = 2 gamma^2 sinh(4 alpha nu), 4 alpha the grade and gamma^2 = exp(-grade lambda)."""
    return jnp.exp(grade * (nu - weight)) - jnp.exp(-grade * (nu + weight))


def _newton(
    J: jax.Array, y: jax.Array, nu: jax.Array, grade: Scalar, weight: Scalar
) -> tuple[jax.Array, jax.Array]:
    """nu after a step along Newton's direction, and the largest slope before it.

    Of the step, its half, its quarter, ... the one where Phi is least is taken.
    """

    def heights(at: jax.Array) -> jax.Array:
        return jnp.exp(grade * (at - weight)) + jnp.exp(-grade * (at + weight))

    def value(at: jax.Array) -> jax.Array:
        smooth = jnp.square(J.T @ at).sum() / 2 - y @ at
        return jnp.nan_to_num(smooth + heights(at).sum() / grade, nan=jnp.inf)

    slope = J @ (J.T @ nu) + _errors(nu, grade, weight) - y
    least = FLAT * jnp.square(J).sum() / len(y)
    inverse = 1 / jnp.maximum(grade * heights(nu), least)
    inner = jnp.eye(J.shape[1], dtype=y.dtype) + J.T @ (inverse[:, None] * J)
    scaled = inverse * slope
    solved = jax.scipy.linalg.solve(inner, J.T @ scaled, assume_a="pos")
    direction = inverse * (J @ solved) - scaled
    sizes = jnp.append(0.5 ** jnp.arange(HALVINGS, dtype=y.dtype), 0)
    tried = jax.vmap(lambda size: value(nu + size * direction))(sizes)
    return nu + sizes[jnp.argmin(tried)] * direction, jnp.abs(slope).max()


def convex_solution(J: np.ndarray, y: np.ndarray, weight: float) -> Recovery:
    """The L1 problem itself, solved by scikit-learn.

    With s = y - J theta it is support-vector regression without an insensitive zone, the weight in
    the place of its C.

    Args:
        J: the linear model, `[N, p]`.
        y: labels.
        weight: lambda.

    Returns:
        Its theta and s.
    """
    from sklearn.svm import LinearSVR  # slow to import

    solver = LinearSVR(
        epsilon=0.0, C=weight, fit_intercept=False, tol=1e-9, max_iter=10_000_000, random_state=0
    )
    theta = solver.fit(J, y).coef_
    return _recovery(J, y, jnp.asarray(theta), jnp.asarray(y - J @ theta))


def random_problem(
    key: Key[Array, ""],
    rank: Scalar,
    sparsity: Scalar,
    *,
    num_samples: int = 100,
    dim: int = 150,
    most_rank: int = 40,
) -> tuple[Float[Array, "N r"], Float[Array, " N"], Float[Array, " N"]]:
    """A low-rank model with Gaussian factors, clean labels and Gaussian errors at random places.

    J = A B^T / sqrt(p r) with A `[N, r]` and B `[p, r]`, all entries standard normal; theta* too.

    Args:
        key: typed.
        rank: r; may be traced.
        sparsity: k, how many labels have an error; may be traced.
        num_samples: N.
        dim: p.
        most_rank: the largest r, the columns of what is returned.

    Returns:
        J in orthonormal coordinates of its row space, `[N, most_rank]`, whose columns beyond r are
        zero; J theta*; and s*.
    """
    keys = jax.random.split(key, 5)
    among = jnp.arange(most_rank) < rank
    A = jnp.where(among, jax.random.normal(keys[0], (num_samples, most_rank)), 0)
    B = jax.random.normal(keys[1], (dim, most_rank))
    scale = jnp.sqrt(dim * jnp.asarray(rank, A.dtype))
    clean = A @ (B.T @ jax.random.normal(keys[2], (dim,))) / scale
    order = jax.random.permutation(keys[3], num_samples)
    errors = jnp.where(order < sparsity, jax.random.normal(keys[4], (num_samples,)), 0)
    return A @ jnp.linalg.cholesky(B.T @ B) / scale, clean, errors


def _recovery(J: AnyArray, y: AnyArray, theta: jax.Array, s: jax.Array) -> Recovery:
    residual = jnp.abs(J @ theta + s - y).max() / jnp.abs(y).max()
    return Recovery(theta, s, residual, residual < 1e-6)


def _check(J: AnyArray, y: AnyArray, gamma: Scalar, alpha: Scalar) -> None:
    checks.check_finite("J", J)
    checks.check_shape("y", y, (np.shape(J)[0],), "[N], a label for each row of J")
    checks.check_finite("y", y)
    _check_start(gamma, alpha)


def _check_start(gamma: Scalar, alpha: Scalar) -> None:
    if checks.is_concrete(gamma):
        checks.check_range("gamma", float(gamma), 0.0, 1.0, closed=False)
    if checks.is_concrete(alpha):
        checks.check_range("alpha", float(alpha), 0.0, closed=False)
