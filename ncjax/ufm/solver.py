"""Finding critical points: a quasi-Newton solve, and saddles by solving in fewer dimensions.

A minimiser inside the first r feature dimensions, padded with zeros, is a critical point of the
whole problem: with W a = 0 and H a = 0 the gradient along a vanishes. So every r < K-1 gives
saddles of rank r, and different starts reach different ones of the same rank.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from ncjax import checks, curvature
from ncjax.minimize import lbfgs
from ncjax.types import Scalar
from ncjax.ufm.problem import Params, Problem, check_params, init, objective


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solution:
    """Where a solver stopped.

    Attributes:
        params: the point.
        gradient_norm: Euclidean norm of the gradient there.
        converged: whether it is at most the tolerance asked for.
        steps: iterations taken, int.
    """

    params: Params
    gradient_norm: jax.Array
    converged: jax.Array
    steps: jax.Array


def minimize(
    params: Params, problem: Problem, *, gradient_tol: Scalar = 1e-9, max_steps: int = 1000
) -> Solution:
    """Minimises the objective from a start by L-BFGS (optax, memory 20, zoom line search).

    Args:
        params: the start.
        problem: the problem.
        gradient_tol: stop when the gradient norm is at most this share of `problem.force`, the
            natural unit of gradients (about the size of the lambdas); 1e-9 needs float64.
        max_steps: stop after this many iterations all the same.

    Returns:
        `Solution`; maps over starts and problems with `vmap`.

    Raises:
        InputError: params don't fit the problem, or a setting is out of range.
    """
    check_params(params, problem)
    return _minimize_in(jnp.ones(problem.feature_dim), params, problem, gradient_tol, max_steps)


def critical_point(
    key: PRNGKeyArray,
    problem: Problem,
    rank: Int[Array, ""] | int,
    *,
    scale: Scalar = 1.0,
    gradient_tol: Scalar = 1e-9,
    max_steps: int = 1000,
) -> Solution:
    """A critical point of rank at most `rank`: minimise in that many dimensions, pad with zeros.

    Rank 0 is the origin with the best bias; K-1 and more reach the global minimiser of cross
    entropy and its kin; in between lie saddles.

    Args:
        key: a typed random key for the start.
        problem: the problem.
        rank: 0 .. d, an int or traced, so that one compiled program sweeps all ranks.
        scale: typical norm of the rows of the start.
        gradient_tol: as in `minimize`; the gradient is that of the whole problem.
        max_steps: as in `minimize`.

    Returns:
        `Solution` in all d dimensions.

    Raises:
        InputError: rank not an integer in 0 .. d, or a setting out of range.
    """
    checks.check_range("rank", rank, 0, problem.feature_dim + 1)
    if not np.issubdtype(jnp.result_type(rank), np.integer):
        raise checks.reject("rank", rank, "an integer")
    checks.check_range("scale", scale, 0.0)
    mask = (jnp.arange(problem.feature_dim) < rank).astype(jnp.zeros(()).dtype)
    start = init(key, problem, scale)
    return _minimize_in(mask, start, problem, gradient_tol, max_steps)


def _minimize_in(
    mask: jax.Array, params: Params, problem: Problem, gradient_tol: Scalar, max_steps: int
) -> Solution:
    """L-BFGS over the feature dimensions where `mask` `[d]` is 1; the others are zero."""
    checks.check_range("gradient_tol", gradient_tol, 0.0, closed=False)
    checks.check_count("max_steps", max_steps, 1)

    def masked(params: Params) -> Params:
        return Params(params.W * mask[None, :], params.H * mask[None, :], params.b)

    def f(params: Params) -> jax.Array:
        return objective(masked(params), problem)

    limit = gradient_tol * problem.force
    params, steps = lbfgs(f, params, limit, max_steps)
    params = masked(params)
    norm = curvature.global_norm(jax.grad(objective)(params, problem))
    return Solution(params, norm, norm <= limit, steps)
