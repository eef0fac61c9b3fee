"""Saddles on demand: solving in fewer feature dimensions.

A minimiser inside the first r feature dimensions, padded with zeros, is a critical point of the
whole problem: with W a = 0 and H a = 0 the gradient along a vanishes. So every r < K-1 gives
saddles of rank r, and different starts reach different ones of the same rank.
"""

from __future__ import annotations

import dataclasses

from jaxtyping import Array, Int, PRNGKeyArray

from ncjax import checks
from ncjax.types import Scalar
from ncjax.ufm.bounds import has_lower_bound
from ncjax.ufm.newton import Aim, Solution, solve
from ncjax.ufm.problem import Problem, expand, init


def critical_point(
    key: PRNGKeyArray,
    problem: Problem,
    rank: Int[Array, ""] | int,
    *,
    aim: Aim = "minimizer",
    scale: Scalar = 1.0,
    gradient_tol: Scalar = 1e-9,
    max_steps: int = 100,
    compact: bool = False,
) -> Solution:
    """A critical point of rank at most `rank`: solve in that many dimensions, pad with zeros.

    With aim "minimizer", rank 0 is the origin with the best bias; K-1 and more reach the global
    minimiser of cross entropy and its kin; in between lie saddles. With aim "critical_point" the
    index within those dimensions is whatever the start leads to.

    Args:
        key: a typed random key for the start.
        problem: the problem.
        rank: 0 .. min(d, K), an int or traced, so that one compiled program sweeps all ranks.
        aim: as in `solve`.
        scale: typical norm of the rows of the start.
        gradient_tol: as in `solve`; the gradient is that of the whole problem.
        max_steps: as in `solve`.
        compact: give one feature a class in min(d, K) dimensions, else one a sample in all d. For
            losses that are convex in the logits that is a matter of form: they are solved compact.

    Returns:
        `Solution`.

    Raises:
        InputError: rank not an integer in that range, or a setting out of range.
    """
    checks.check_range("scale", scale, 0.0)
    checks.check_range("rank", rank, 0, min(problem.feature_dim, problem.num_classes) + 1)
    start = init(key, problem, scale, compact=compact or has_lower_bound(problem))
    found = solve(
        start, problem, aim=aim, columns=rank, gradient_tol=gradient_tol, max_steps=max_steps
    )
    return found if compact else dataclasses.replace(found, params=expand(found.params, problem))
