"""Spectrum slicing: any single eigenvalue of the Hessian by bisection on exact counts.

Its eigenvector follows by inverse iteration through the arrow's factorisation, and refines it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ncjax.ufm import arrow as arrows
from ncjax.ufm.inertia import counts_below, diagonal_blocks, eliminated_at
from ncjax.ufm.problem import (
    Params,
    Problem,
    check_params,
    expand,
    hessian_product,
    inner,
    norm,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Eigenpair:
    """One eigenvalue of the Hessian, by its place.

    Attributes:
        eigenvalue: the Rayleigh quotient of `vector`.
        vector: unit direction, `Params` of the whole space.
        residual: ||Hv - eigenvalue v||, from a fresh product.
        converged: whether the residual is at the level of rounding, and the eigenvalue inside the
            interval that the counts leave for it.
    """

    eigenvalue: jax.Array
    vector: Params
    residual: jax.Array
    converged: jax.Array


def eigenvalue(params: Params, problem: Problem, index: Int[Array, ""] | int) -> Float[Array, ""]:
    """The eigenvalue of the Hessian at a place in ascending order, by bisection on the counts.

    Args:
        params: any point, whole or compact.
        problem: the problem.
        index: 0 for the smallest; negative from the largest, -1, on.

    Returns:
        The eigenvalue, to rounding of the norm; less well next to an eigenvalue of a block, where
        counts err. (`eigenpair` refines it and says whether it has converged.)

    Raises:
        InputError: params don't fit the problem.
    """
    check_params(params, problem)
    return _bracket(params, problem, jnp.asarray(index)).mean()


def eigenpair(params: Params, problem: Problem, index: Int[Array, ""] | int) -> Eigenpair:
    """The eigenpair at a place in ascending order: bisection, then inverse iteration.

    Args:
        params: any point; a compact one is expanded, for eigenvectors may part its samples.
        problem: the problem, its sizes static.
        index: 0 for the smallest; negative from the largest, -1, on.

    Returns:
        `Eigenpair`. Of a multiple eigenvalue, some vector of its space.

    Raises:
        InputError: params don't fit the problem.
    """
    return _eigenpair(expand(params, problem), problem, jnp.asarray(index))


@jax.jit
def _eigenpair(params: Params, problem: Problem, index: jax.Array) -> Eigenpair:
    low, high = _bracket(params, problem, index)
    pieces = arrows.arrow(params, problem)
    # A shift that hits an eigenvalue of a block exactly can't be eliminated: a little beside it.
    beside = float(jnp.finfo(low.dtype).eps) ** 0.8 * _norm_bound(params, problem)
    shift = (low + high) / 2 + beside
    _, factored = eliminated_at(pieces, diagonal_blocks(pieces), shift)
    lu = jax.scipy.linalg.lu_factor(factored.schur)

    def improve(_: Any, vector: Params) -> Params:
        corner = jax.scipy.linalg.lu_solve(lu, arrows.corner_right(factored, vector))
        return _normalized(arrows.with_corner(factored, vector, corner), problem)

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    start = unravel(jax.random.normal(jax.random.key(0), flat.shape, flat.dtype))
    vector = jax.lax.fori_loop(0, 4, improve, _normalized(start, problem))
    product = hessian_product(params, vector, problem)
    value = inner(vector, product, problem)
    rest = norm(jax.tree.map(lambda p, v: p - value * v, product, vector), problem)
    slack = _tolerance(params, problem)
    inside = (value >= low - slack) & (value <= high + slack)
    return Eigenpair(value, vector, rest, inside & (rest <= slack))


def _normalized(direction: Params, problem: Problem) -> Params:
    size = norm(direction, problem)
    return jax.tree.map(lambda leaf: leaf / size, direction)


@jax.jit
def _bracket(params: Params, problem: Problem, index: jax.Array) -> Float[Array, "2"]:
    """An interval around the eigenvalue, as narrow as rounding lets the counts make it.

    Where counts err, next to an eigenvalue of a block, it may lie beside it by as much as they do.
    """
    K, d = problem.num_classes, problem.feature_dim
    total = K * (d + 1) + problem.num_samples * d
    place = jnp.where(index < 0, jnp.asarray(total + index, index.dtype), index)
    bound = _norm_bound(params, problem)
    steps = int(-math.log2(float(jnp.finfo(bound.dtype).eps)))

    def halve(_: Any, ends: jax.Array) -> jax.Array:
        middle = ends.mean()
        above = counts_below(params, problem, middle[None])[0] <= place
        return jnp.where(above, jnp.stack([middle, ends[1]]), jnp.stack([ends[0], middle]))

    return jax.lax.fori_loop(0, steps, halve, jnp.stack([-bound, bound]))


def _relative(params: Params) -> float:
    return 4 * float(jnp.finfo(params.W.dtype).eps) ** 0.6


def _tolerance(params: Params, problem: Problem) -> jax.Array:
    return _relative(params) * _norm_bound(params, problem)


def _norm_bound(params: Params, problem: Problem) -> jax.Array:
    """At least the norm of H: Frobenius norms of its pieces, as matrices of the whole space."""
    pieces = arrows.arrow(params, problem)
    m, g = pieces.multiplicity, pieces.gradients
    lengths = jnp.square(pieces.X).sum(1)
    sizes = jnp.linalg.norm(pieces.hessians, axis=(1, 2))
    through = jnp.linalg.norm(pieces.hessians @ pieces.W, axis=(1, 2)) * jnp.sqrt(lengths)
    coupling = (through + jnp.linalg.norm(g, axis=1) * pieces.W.shape[1] ** 0.5) / jnp.sqrt(m)
    blocks = jnp.linalg.norm(pieces.blocks, axis=(1, 2)) / m
    corner = (sizes * lengths).sum() + jnp.abs(pieces.decay).max()
    decay = jnp.maximum(problem.lambda_w, problem.lambda_h)
    return jnp.linalg.norm(coupling) + blocks.max() + corner + decay
