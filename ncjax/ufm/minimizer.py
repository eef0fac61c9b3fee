r"""The global minimiser of a balanced problem, from three scalars, for any symmetric loss.

If the loss treats all wrong classes alike, the best logits are :math:`\bar Z = s P + z 11'/K` (one
column a class, :math:`P = I - 11'/K`) with bias :math:`\beta 1`, and the objective becomes

.. math:: \ell(m + s (1 - 1/K),\; m - s/K) + \tau ((K-1)|s| + |z|) + \frac{\lambda_b}{2} K \beta^2

with :math:`m = z/K + \beta` the common part of the logits, :math:`\ell(t, o)` the loss where the
true logit is t and the others o, and :math:`\tau = \sqrt{n \lambda_W \lambda_H}`. For a given m the
best z and :math:`\beta` are explicit (a Huber function of m), so two scalars are left. Cross
entropy, smoothing and focal have m = 0; MSE takes a common component z > 0 when
:math:`\lambda_b / (1 + \lambda_b) > K \tau / M`. The papers' closed forms for s are its tests.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ncjax import checks, frames
from ncjax.types import Scalar
from ncjax.ufm.problem import Params, Problem, expand

_GRID = np.geomspace(2.0**-6, 2.0**7, 53)  # of s
_VALLEYS = 3
_STEPS = 80


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Minimizer:
    """The minimiser among symmetric configurations: global for convex losses.

    Differentiable (to first order) in the problem's lambdas and hyperparameters.

    Attributes:
        value: the objective there, scalar.
        logit_gap: s >= 0, the true logit less a wrong one; 0 if regularisation wins.
        common: z, the eigenvalue of the logits on the all-ones vector.
        bias: beta, every entry of b.
        params: explicit W, H, b.
        converged: whether `residual` is at the level of rounding, and (under `jit`, where it
            can't be refused) d is large enough for z.
        residual: norm of the projected gradient in (s, m), relative to the terms it is made of.
    """

    value: jax.Array
    logit_gap: jax.Array
    common: jax.Array
    bias: jax.Array
    params: Params
    converged: jax.Array
    residual: jax.Array


def minimizer(problem: Problem, *, compact: bool = False) -> Minimizer:
    """Solves the two-scalar problem by safeguarded Newton from the lowest valleys of a grid.

    Args:
        problem: balanced, with d >= K-1, or d >= K where the logits have a common component.
        compact: give one feature a class, in min(d, K) dimensions, instead of all N d numbers.

    Returns:
        `Minimizer`. For cross entropy, label smoothing and MSE it is a global minimiser of the
        whole landscape (certify it to see); for focal and other losses the best symmetric point.

    Raises:
        InputError: d is too small to hold the minimiser, classes are unequal, or the problem is a
            batch (use `vmap`).

    Examples:
        >>> best = minimizer(Problem(4, 6, 3, "cross_entropy", 5e-3, 1e-3, 1e-2))
        >>> round(float(best.logit_gap), 4)  # log(1/tau - (K-1))
        5.542
    """
    K, d = problem.num_classes, problem.feature_dim
    if d < K - 1:
        raise _too_small(problem, K - 1, "its classifier is a simplex ETF of rank K-1")
    if np.ndim(problem.tau):
        raise checks.reject("lambdas", f"shape {problem.tau.shape}", "scalars", "Use `vmap`.")
    if not problem.balanced:
        raise checks.reject(
            "samples_per_class",
            problem.samples_per_class,
            "one number",
            "Unequal classes have no symmetric minimiser: use `solve`.",
        )
    # Compact, a problem of any d >= K is that of d = K: one program serves all.
    d = min(d, K) if compact else d
    best = _written_out(
        _two_scalars(_reduced(problem)), dataclasses.replace(problem, feature_dim=d), compact
    )
    if d < K and checks.is_concrete(best.common) and np.any(np.asarray(best.common) != 0):
        raise _too_small(problem, K, "its logits have a common component, so its rank is K")
    return best


def _reduced(problem: Problem) -> Problem:
    """The same two-scalar problem at one sample a class, so that one program serves all sizes."""
    tau = problem.tau
    sizes = {"feature_dim": 1, "samples_per_class": 1}
    return dataclasses.replace(problem, **sizes, lambda_w=tau, lambda_h=tau)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Scalars:
    """What a minimiser is made of, and how well it is known."""

    value: Scalar
    s: Scalar
    common: Scalar
    bias: Scalar
    residual: Scalar


@jax.jit
def _two_scalars(problem: Problem) -> _Scalars:
    s, m = _solve(problem)
    x = jnp.stack([s, m])
    common, bias = _split_common(m, problem)
    return _Scalars(_reduced_objective(x, problem), s, common, bias, _residual(x, problem))


@functools.partial(jax.jit, static_argnums=2)
def _written_out(found: _Scalars, problem: Problem, compact: bool) -> Minimizer:
    fits = (found.common == 0) | (problem.feature_dim >= problem.num_classes)
    known = found.residual <= float(jnp.finfo(found.s.dtype).eps) ** 0.75
    return Minimizer(
        value=found.value,
        logit_gap=found.s,
        common=found.common,
        bias=found.bias,
        params=_explicit_params(found.s, found.common, found.bias, problem, compact),
        converged=known & fits,
        residual=found.residual,
    )


def _too_small(problem: Problem, least: int, why: str) -> checks.InputError:
    return checks.reject(
        "feature_dim",
        problem.feature_dim,
        f"at least {least} for this problem: {why}",
        f"Set feature_dim={least} or more.",
    )


def _loss_at(true: Scalar, other: Scalar, problem: Problem) -> Scalar:
    """The loss of one example with one true logit and K-1 equal wrong ones."""
    is_true = np.arange(problem.num_classes) == 0
    return problem.loss_fn(jnp.where(is_true, true, other), jnp.asarray(0))


@jax.jit
def _reduced_objective(x: Float[Array, "2"], problem: Problem) -> Scalar:
    K, tau, lambda_b = problem.num_classes, problem.tau, problem.lambda_b
    s, m = x
    # min over z + K beta = K m of tau |z| + lambda_b K beta^2 / 2
    size, positive = jnp.abs(m), jnp.where(lambda_b > 0, lambda_b, 1)
    common_cost = K * jnp.where(
        lambda_b * size <= tau, lambda_b * m**2 / 2, tau * size - tau**2 / (2 * positive)
    )
    return _loss_at(*_loss_arguments(x, problem), problem) + tau * (K - 1) * s + common_cost


def _split_common(m: Scalar, problem: Problem) -> tuple[Scalar, Scalar]:
    """(z, beta) from m: the bias carries it until lambda_b |m| exceeds tau."""
    bounded = problem.lambda_b > 0
    limit = jnp.where(bounded, problem.tau / jnp.where(bounded, problem.lambda_b, 1), jnp.inf)
    bias = jnp.clip(m, -limit, limit)
    return problem.num_classes * (m - bias), bias


def _solve(problem: Problem) -> tuple[Scalar, Scalar]:
    frozen = jax.lax.stop_gradient(problem)
    ends = jax.vmap(lambda start: _newton(start, frozen))(_starts(frozen))
    values = jnp.where(jnp.isnan(ends.value), jnp.inf, ends.value)
    best = jax.lax.stop_gradient(jax.tree.map(lambda leaf: leaf[jnp.argmin(values)], ends))
    # One more Newton step from the frozen solution: no change in value, and by the implicit
    # function theorem the right derivative with respect to the problem.
    gradient = jax.grad(_reduced_objective)(best.x, problem)
    free = _inside(gradient, best.x) & _curved(best)
    s, m = best.x + _newton_step(gradient, best.hessian, free, damping=0.0)
    return jnp.maximum(s, 0), m


def _starts(problem: Problem) -> Float[Array, "starts 2"]:
    """The lowest local minima on a grid of s with m = 0, and the points before them.

    A hinge loss is flat, without curvature, from the minimum on. The ends of the grid count too:
    the first leads to s = 0.
    """
    grid = jnp.asarray(np.stack([_GRID, np.zeros_like(_GRID)], axis=1), problem.tau.dtype)
    values = jax.vmap(lambda x: _reduced_objective(x, problem))(grid)
    values = jnp.where(jnp.isnan(values), jnp.inf, values)
    padded = jnp.pad(values, 1, constant_values=jnp.inf)
    valley = (values < padded[:-2]) & (values <= padded[2:])
    depth = jnp.where(valley, values, jnp.inf)
    lowest = jnp.argsort(depth)[:_VALLEYS]
    lowest = jnp.where(jnp.isfinite(depth[lowest]), lowest, lowest[0])  # if there are fewer
    return grid[jnp.concatenate([lowest, jnp.maximum(lowest - 1, 0)])]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Local:
    """The reduced objective about a point x = (s, m), and the units of its rounding."""

    x: Float[Array, "2"]
    value: Scalar
    gradient: Float[Array, "2"]
    hessian: Float[Array, "2 2"]
    slopes: Scalar  # size of the terms that cancel in the gradient at a solution
    curvatures: Scalar  # and of those that cancel in the Hessian


@jax.jit  # traced once for all the places where it is called
def _at(x: Float[Array, "2"], problem: Problem) -> _Local:
    K, tau, lambda_b = problem.num_classes, problem.tau, problem.lambda_b
    z, m = _loss_arguments(x, problem), x[1]

    def with_slope(z: Float[Array, "2"]) -> tuple[jax.Array, jax.Array]:
        slope = jax.grad(lambda z: _loss_at(*z, problem))(z)
        return slope, slope

    curvature, slope = jax.jacfwd(with_slope, has_aux=True)(z)
    arguments = jnp.asarray([[1 - 1 / K, 1], [-1 / K, 1]], z.dtype)  # dz / dx
    small = lambda_b * jnp.abs(m) <= tau
    common = jnp.where(small, lambda_b * m, tau * jnp.sign(m))
    rounded_logits = (jnp.abs(curvature) * jnp.abs(z)[None, :]).sum()
    return _Local(
        x=x,
        value=_reduced_objective(x, problem),
        gradient=slope @ arguments + jnp.stack([tau * (K - 1), K * common]),
        hessian=arguments.T @ curvature @ arguments
        + K * jnp.diag(jnp.stack([jnp.zeros_like(tau), jnp.where(small, lambda_b, 0)])),
        slopes=jnp.abs(slope).sum() + rounded_logits + K * tau,
        curvatures=jnp.abs(curvature).sum(),
    )


def _newton(start: Float[Array, "2"], problem: Problem) -> _Local:
    """Levenberg-damped Newton on {s >= 0}, tolerant of rounding near the solution."""
    epsilon = float(jnp.finfo(start.dtype).eps)

    def unfinished(carry: tuple) -> jax.Array:
        _, _, moving, steps = carry
        return moving & (steps < _STEPS)

    def body(carry: tuple) -> tuple:
        here, damping, _, steps = carry
        x, gradient, hessian = here.x, here.gradient, here.hessian
        # A slope at the level of rounding moves nothing: else the free shift of b would drift.
        sloped = jnp.abs(gradient) > 32 * epsilon * here.slopes
        free = _inside(gradient, x) & _curved(here) & sloped
        trial = x + _newton_step(gradient, hessian, free, damping)
        trial = jnp.where(trial[0] < 0, _to_bound(x, gradient, hessian, free, damping), trial)
        there = _at(trial, problem)
        better = there.value <= here.value + 4 * epsilon * jnp.abs(here.value)
        here = jax.tree.map(lambda a, b: jnp.where(better, a, b), there, here)
        damping = jnp.where(better, damping / 8, damping * 8 + 1e-6)
        return here, damping, free.any(), steps + 1

    first = (_at(start, problem), jnp.zeros_like(start[0]), jnp.asarray(True))
    return jax.lax.while_loop(unfinished, body, (*first, jnp.zeros((), jnp.int32)))[0]


def _newton_step(
    gradient: Float[Array, "2"],
    hessian: Float[Array, "2 2"],
    free: Bool[Array, "2"],
    damping: Scalar | float,
) -> Float[Array, "2"]:
    """-(|H| + damping)^-1 g over the free variables, each in the unit of its own curvature."""
    unit = jnp.sqrt(jnp.abs(jnp.diagonal(hessian)))
    unit = jnp.where(free & (unit > 0), unit, 1)
    scaled = jnp.where(free[:, None] & free[None, :], hessian, 0) / jnp.outer(unit, unit)
    eigenvalues, vectors = jnp.linalg.eigh(scaled)
    size = jnp.maximum(jnp.abs(eigenvalues) + damping, 1e3 * float(jnp.finfo(unit.dtype).eps))
    slope = vectors.T @ jnp.where(free, gradient / unit, 0)
    return -vectors @ (slope / size) / unit


def _to_bound(
    x: Float[Array, "2"],
    gradient: Float[Array, "2"],
    hessian: Float[Array, "2 2"],
    free: Bool[Array, "2"],
    damping: Scalar,
) -> Float[Array, "2"]:
    """The point with s = 0 and the m that the quadratic model finds best there."""
    size = jnp.abs(hessian[1, 1]) * (1 + damping)
    slope = gradient[1] - hessian[0, 1] * x[0]
    return jnp.stack([jnp.zeros_like(x[0]), x[1] - jnp.where(free[1], slope / size, 0)])


def _inside(gradient: Float[Array, "2"], x: Float[Array, "2"]) -> Bool[Array, "2"]:
    at_bound = (x[0] <= 0) & (gradient[0] >= 0)
    return jnp.stack([~at_bound, jnp.ones_like(at_bound)])


def _loss_arguments(x: Float[Array, "2"], problem: Problem) -> Float[Array, "2"]:
    """The true and the wrong logit at (s, m)."""
    s, m = x
    return jnp.stack([m + s * (1 - 1 / problem.num_classes), m - s / problem.num_classes])


def _curved(here: _Local) -> Bool[Array, "2"]:
    """Whether each variable's curvature is more than the rounding of what cancels in it."""
    noise = 1e3 * float(jnp.finfo(here.x.dtype).eps) * here.curvatures
    return jnp.abs(jnp.diagonal(here.hessian)) > noise


def _residual(x: Float[Array, "2"], problem: Problem) -> Scalar:
    here = _at(x, problem)
    return jnp.linalg.norm(jnp.where(_inside(here.gradient, x), here.gradient, 0)) / here.slopes


def _safe_sqrt(x: Scalar) -> Scalar:
    """sqrt with slope 0 at 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def _explicit_params(
    s: Scalar, common: Scalar, bias: Scalar, problem: Problem, compact: bool
) -> Params:
    """Balanced factors of Zbar: W W' = sqrt(n lambda_h / lambda_w) |Zbar|, h = sqrt(...) w."""
    K, n = problem.num_classes, problem.class_sizes[0]
    d = min(problem.feature_dim, K)
    ratio = jnp.sqrt(problem.lambda_w / (n * problem.lambda_h))
    zero_sum = _safe_sqrt(s) * frames.zero_sum_isometry(K, d)
    ones = _safe_sqrt(jnp.abs(common)) * jnp.full((K, d), 1 / K)
    W = (zero_sum + ones) / jnp.sqrt(ratio)
    class_features = ratio * (zero_sum + jnp.sign(common) * ones) / jnp.sqrt(ratio)
    params = Params(W=W, H=class_features, b=jnp.full(K, bias))
    return params if compact else expand(params, problem)
