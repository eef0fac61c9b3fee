r"""Structured Newton: every step solves with the exact Hessian through its arrow form.

Two aims share it.

* *A minimiser.* Levenberg-Marquardt steps :math:`-(H + \lambda I)^{-1} \nabla f`. A shift under
  which H is not positive definite, or whose step does not lower f, is refused and raised.
* *A critical point of any index.* Levenberg-Marquardt on :math:`\frac12 ||\nabla f||^2`, whose
  step :math:`-H (H^2 + \lambda^2)^{-1} \nabla f` is minus the real part of
  :math:`(H + i\lambda)^{-1} \nabla f`: one complex solve of the same form, never singular. With a
  vanishing shift it is the undamped Newton step.

The shift follows the ratio of actual to predicted decrease by Nielsen's rule (1999). All is done in
the variables in which both decays are mu, so that only their product matters to the path.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ncjax import checks
from ncjax.types import Scalar
from ncjax.ufm import arrow as arrows
from ncjax.ufm.problem import Params, Problem, check_params, gradient, inner, norm, objective

Aim = Literal["minimizer", "critical_point"]
AIMS: tuple[str, ...] = ("minimizer", "critical_point")
_LEAST, _FIRST, _MOST = 1e-9, 1e3, 1e15  # shifts, in units of mu


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solution:
    """Where the solver stopped.

    Attributes:
        params: the point, in the form of the start.
        gradient_norm: Euclidean norm of the gradient there, over W, b and every sample's feature.
        converged: whether it is at most the tolerance asked for.
        steps: linear systems solved, int, those of refused steps among them.
    """

    params: Params
    gradient_norm: jax.Array
    converged: jax.Array
    steps: jax.Array


def solve(
    params: Params,
    problem: Problem,
    *,
    aim: Aim = "minimizer",
    columns: Int[Array, ""] | int | None = None,
    gradient_tol: Scalar = 1e-9,
    max_steps: int = 100,
) -> Solution:
    """Solves for a critical point by structured Newton steps.

    Args:
        params: the start, whole or compact. A compact start of a loss that is convex in the logits
            loses nothing: every critical point is one of its points.
        problem: the problem.
        aim: "minimizer" goes down, to a point whose Hessian is positive semidefinite unless the
            start lay in a subspace that gradients do not leave (as one of unused columns);
            "critical_point" goes to a nearby critical point of any index, or to a minimum of the
            gradient norm, which is none; `converged` tells them apart.
        columns: only the first so many feature columns move, the others are set to zero; all of
            them if None. May be traced, so that one program serves all ranks.
        gradient_tol: stop when the gradient norm is at most this share of `problem.force`, the
            natural unit of gradients (about the size of the lambdas). In float64 1e-9 is above
            rounding; float32 reaches about 1e-4.
        max_steps: stop after this many linear systems all the same.

    Returns:
        `Solution`; maps over starts and problems with `vmap`.

    Raises:
        InputError: params don't fit the problem, or a setting is out of range.

    Examples:
        >>> from ncjax.ufm.problem import init
        >>> with jax.enable_x64(True):
        ...     problem = Problem(4, 6, 3, "focal", 5e-3, 1e-3, 1e-2)
        ...     found = solve(init(jax.random.key(0), problem), problem)
        >>> bool(found.converged), int(found.steps) < 60
        (True, True)
    """
    check_params(params, problem)
    checks.check_choice("aim", aim, AIMS)
    checks.check_range("gradient_tol", gradient_tol, 0.0, closed=False)
    checks.check_count("max_steps", max_steps, 1)
    width = params.W.shape[1]
    columns = width if columns is None else columns
    checks.check_range("columns", columns, 0, width + 1)
    if not np.issubdtype(jnp.result_type(columns), np.integer):
        raise checks.reject("columns", columns, "an integer")
    return _solve(params, problem, jnp.asarray(columns), gradient_tol, aim, max_steps)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    """Where the iteration stands."""

    params: Params
    gradient: Params
    value: jax.Array  # what is lowered: f, or half the squared gradient norm
    shift: jax.Array
    growth: jax.Array  # of the shift at the next refusal
    steps: jax.Array


@functools.partial(jax.jit, static_argnames=("aim", "max_steps"))
def _solve(
    params: Params,
    problem: Problem,
    columns: jax.Array,
    gradient_tol: Scalar,
    aim: Aim,
    max_steps: int,
) -> Solution:
    used = (jnp.arange(params.W.shape[1]) < columns).astype(params.W.dtype)
    params = Params(params.W * used[None, :], params.H * used[None, :], params.b)
    limit = gradient_tol * problem.force
    # With W' = ratio W, H' = H / ratio both decays are mu, and the factors of a solution equally
    # large: there is no long valley along which they have yet to be balanced.
    ratio = jnp.sqrt(jnp.sqrt(jnp.asarray(problem.lambda_w / problem.lambda_h)))
    params = _rescaled(params, ratio)
    problem = dataclasses.replace(problem, lambda_w=problem.mu, lambda_h=problem.mu)

    def size(slope: Params) -> jax.Array:
        return norm(_rescaled(slope, ratio), problem)

    def at(params: Params) -> tuple[Params, jax.Array]:
        slope = gradient(params, problem)
        if aim == "minimizer":
            return slope, objective(params, problem)
        return slope, inner(slope, slope, problem) / 2

    def unfinished(state: _State) -> jax.Array:
        far = size(state.gradient) > limit
        return far & (state.steps < max_steps) & (state.shift < _MOST * problem.mu)

    def iterate(state: _State) -> _State:
        step, predicted = _step(state, problem, aim, used)
        params = jax.tree.map(jnp.add, state.params, step)
        slope, value = at(params)
        # Beyond what rounding lets f show, a predicted decrease is taken to be real.
        visible = predicted > 4 * float(jnp.finfo(value.dtype).eps) * jnp.abs(state.value)
        gain = jnp.where(visible, (state.value - value) / predicted, 1)
        smaller = state.shift * jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        taken = _State(params, slope, value, smaller, jnp.asarray(2.0), state.steps)
        refused = dataclasses.replace(
            state, shift=state.shift * state.growth, growth=2 * state.growth
        )
        good = (gain > 0) & jnp.isfinite(value)
        chosen = jax.tree.map(lambda a, b: jnp.where(good, a, b), taken, refused)
        shift = jnp.maximum(chosen.shift, _LEAST * problem.mu)
        return dataclasses.replace(chosen, shift=shift, steps=state.steps + 1)

    shift, growth = jnp.asarray(_FIRST * problem.mu), jnp.asarray(2.0)
    first = _State(params, *at(params), shift, growth, jnp.zeros((), jnp.int32))
    last = jax.lax.while_loop(unfinished, iterate, first)
    left = size(last.gradient)
    return Solution(_rescaled(last.params, 1 / ratio), left, left <= limit, last.steps)


def _rescaled(params: Params, ratio: jax.Array) -> Params:
    return dataclasses.replace(params, W=ratio * params.W, H=params.H / ratio)


def _step(
    state: _State, problem: Problem, aim: Aim, used: Float[Array, " d"]
) -> tuple[Params, jax.Array]:
    """The step for the shift at hand, and the decrease that the quadratic model predicts."""
    pieces = arrows.arrow(state.params, problem)
    slope, shift = state.gradient, state.shift
    right = jax.tree.map(jnp.negative, slope)
    # Columns that are not used, all zero, are decoupled; cut off, their curvature plays no part.
    mask = jnp.outer(used, used)[None]
    if aim == "minimizer":
        inverses = _definite_inverse(arrows.shifted_blocks(pieces, -shift)) * mask
        step = _solved(arrows.eliminated(pieces, -shift, inverses), right, definite=True)
        predicted = (shift * inner(step, step, problem) - inner(slope, step, problem)) / 2
        return step, predicted
    turned = jax.lax.complex(jnp.zeros_like(shift), -shift)
    inverses = jnp.linalg.inv(arrows.shifted_blocks(pieces, turned)) * mask.astype(turned.dtype)
    solution = _solved(arrows.eliminated(pieces, turned, inverses), right, definite=False)
    step, rest = jax.tree.map(jnp.real, solution), jax.tree.map(jnp.imag, solution)
    # The gradient that the linear model leaves is shift * rest.
    predicted = (inner(slope, slope, problem) - shift**2 * inner(rest, rest, problem)) / 2
    return step, predicted


def _solved(factored: arrows.Factored, right: Params, *, definite: bool) -> Params:
    """(H - tI)^-1 of a direction; NaN if H - tI should be definite and is not."""
    weighted = dataclasses.replace(right, H=factored.arrow.multiplicity[:, None] * right.H)
    corner = arrows.corner_right(factored, weighted)
    if definite:
        lower = jnp.linalg.cholesky(factored.schur, symmetrize_input=False)
        corner = jax.scipy.linalg.cho_solve((lower, True), corner)
    else:
        corner = jnp.linalg.solve(factored.schur, corner)
    return arrows.with_corner(factored, weighted, corner)


def _definite_inverse(blocks: Float[Array, "rows d d"]) -> Float[Array, "rows d d"]:
    """Inverses by Cholesky: NaN where a block is not positive definite."""
    lower = jnp.linalg.cholesky(blocks, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(blocks.shape[-1]), blocks.shape)
    half = jax.scipy.linalg.solve_triangular(lower, identity, lower=True)
    return jnp.einsum("ife,ifg->ieg", half, half, precision=jax.lax.Precision.HIGHEST)
