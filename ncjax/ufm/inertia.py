"""Exact counts of Hessian eigenvalues by Haynsworth's inertia additivity, and what follows.

The number of eigenvalues of H below t is that of the negative ones of H - tI, which is that of its
blocks plus that of their Schur complement (`ncjax.ufm.arrow`). No Krylov method gives such counts
on spectra with a hundred zeros. A compact point's rows and columns that were left out are counted
in closed form:

* of a row that stands for m samples, m - 1 directions part the samples and see its block alone;
* a feature column of zeros sees, whatever the point, only the singular values s of the loss
  gradient: eigenvalues of [[lambda_w, s], [s, lambda_h]], and lambda_h for the other samples.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ncjax import checks
from ncjax.curvature import Signs
from ncjax.types import Scalar
from ncjax.ufm import arrow as arrows
from ncjax.ufm.certificate import escape_eigenvalues
from ncjax.ufm.problem import (
    Params,
    Problem,
    check_params,
    expand,
    hessian_product,
    inner,
    norm,
)

_PRECISION = jax.lax.Precision.HIGHEST


def count_below(params: Params, problem: Problem, shift: Scalar) -> Int[Array, ""]:
    """How many eigenvalues of the Hessian lie below a shift, exactly up to rounding.

    Args:
        params: any point, whole or compact; it need not be critical.
        problem: the problem, with any loss and any class sizes.
        shift: t. An eigenvalue nearer to it than rounding (epsilon times the norm, divided by the
            distance of t to the nearest eigenvalue of a block) may be counted on either side.

    Returns:
        The count, with multiplicity, over all K(d+1) + N d dimensions. Works under `jit` and
        `vmap`.

    Raises:
        InputError: params don't fit the problem, or a shift that is not finite.
    """
    check_params(params, problem)
    checks.check_finite("shift", shift)
    return counts_below(params, problem, jnp.asarray(shift)[None])[0]


def inertia(params: Params, problem: Problem, tol: Scalar = 1e-6) -> Signs:
    """The numbers of negative, zero and positive eigenvalues of the Hessian.

    Args:
        params: any point, whole or compact.
        problem: the problem.
        tol: eigenvalues within tol * mu of zero count as zero; mu = sqrt(lambda_w lambda_h) is the
            natural unit of curvature here.

    Returns:
        `ncjax.curvature.Signs`. Works under `jit` and `vmap`.

    Raises:
        InputError: params don't fit the problem, or tol is not positive.

    Examples:
        >>> from ncjax.ufm.minimizer import minimizer
        >>> with jax.enable_x64(True):
        ...     problem = Problem(4, 6, 3, "cross_entropy", 5e-3, 1e-3, 1e-2)
        ...     counts = inertia(minimizer(problem).params, problem)
        >>> int(counts.negative), int(counts.zero), int(counts.positive)  # zeros: the rotations
        (0, 12, 88)
    """
    checks.check_range("tol", tol, 0.0, closed=False)
    check_params(params, problem)
    width = tol * problem.mu
    below, not_above = counts_below(params, problem, jnp.stack([-width, width]))
    return signs_from(below, not_above, problem, width)


def signs_from(
    below: Int[Array, ""], not_above: Int[Array, ""], problem: Problem, width: Scalar
) -> Signs:
    """`Signs` from the counts below -width and below width."""
    total = problem.num_classes * (problem.feature_dim + 1)
    total = total + problem.num_samples * problem.feature_dim
    positive = jnp.asarray(total).astype(below.dtype) - not_above
    return Signs(below, not_above - below, positive, jnp.asarray(width))


@jax.jit
def counts_below(params: Params, problem: Problem, shifts: Float[Array, " s"]) -> Int[Array, " s"]:
    """`count_below` at several shifts, unchecked: the blocks are diagonalised once."""
    pieces = arrows.arrow(params, problem)
    curvatures, vectors = _diagonal_blocks(pieces)
    columns = problem.feature_dim - params.W.shape[1]

    def count(shift: jax.Array) -> jax.Array:
        inverses = _inverses(pieces, curvatures, vectors, shift)
        of_blocks = (pieces.multiplicity * _number(curvatures < shift, axis=1)).sum()
        of_corner = _number_negative(arrows.eliminated(pieces, shift, inverses).schur)
        unused = columns * _of_a_zero_column(pieces, problem, shift)
        return (of_blocks + of_corner + unused).astype(int)

    return jax.vmap(count)(shifts)


def _number_negative(matrix: Float[Array, "p p"]) -> jax.Array:
    """How many eigenvalues of a symmetric matrix are negative.

    JAX's eigvalsh finds eigenvectors too, for eight times the work of the tridiagonal form, whose
    pivots have the same signs (Sturm). TPUs have no such routine.
    """

    def by_pivots(matrix: jax.Array) -> jax.Array:
        _, diagonal, beside, _ = jax.lax.linalg.tridiagonal(matrix, lower=True)
        least = float(jnp.finfo(matrix.dtype).tiny) / float(jnp.finfo(matrix.dtype).eps)
        squares = jnp.concatenate([jnp.zeros(1, matrix.dtype), jnp.square(beside)])

        def step(carry: tuple, entry: tuple) -> tuple:
            pivot, count = carry
            pivot = entry[0] - entry[1] / pivot
            pivot = jnp.where(jnp.abs(pivot) < least, -least, pivot)
            return (pivot, count + _number(pivot < 0)), None

        first = jnp.ones((), matrix.dtype), jnp.zeros(())
        return jax.lax.scan(step, first, (diagonal, squares))[0][1]

    def by_eigenvalues(matrix: jax.Array) -> jax.Array:
        return _number(jnp.linalg.eigvalsh(matrix) < 0)

    return jax.lax.platform_dependent(matrix, cpu=by_pivots, cuda=by_pivots, default=by_eigenvalues)


def _number(found: Bool[Array, " *shape"], axis: int | None = None) -> jax.Array:
    """A count, as a float, to be multiplied by class sizes."""
    return found.sum(axis).astype(jnp.zeros(()).dtype)


def _diagonal_blocks(pieces: arrows.Arrow) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues of each block per sample, `[rows, d]`, and its eigenvectors, `[rows, d, d]`."""
    return jnp.linalg.eigh(pieces.blocks / pieces.multiplicity[:, None, None])


def _inverses(
    pieces: arrows.Arrow, curvatures: jax.Array, vectors: jax.Array, shift: jax.Array
) -> Float[Array, "rows d d"]:
    """The inverses of the shifted blocks."""
    gaps = curvatures - shift
    least = float(jnp.finfo(gaps.dtype).eps) ** 1.5 * jnp.abs(curvatures).max()
    gaps = jnp.where(jnp.abs(gaps) < least, least, gaps)  # an exact hit counts as not below
    scaled = vectors / (pieces.multiplicity[:, None] * gaps)[:, None, :]
    return jnp.einsum("ief,igf->ieg", scaled, vectors, precision=_PRECISION)


def _of_a_zero_column(pieces: arrows.Arrow, problem: Problem, shift: jax.Array) -> jax.Array:
    """How many of the K + N eigenvalues of an unused feature column lie below the shift."""
    g = pieces.gradients / jnp.sqrt(pieces.multiplicity)[:, None]
    sigma = jnp.linalg.svd(g, compute_uv=False)
    low, high = escape_eigenvalues(sigma, problem)
    others = problem.num_samples - problem.num_classes
    count = _number(low < shift) + _number(high < shift)
    return count + others * _number(jnp.asarray(problem.lambda_h < shift))


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
        The eigenvalue, to about 1e-9 of the norm in float64 (`eigenpair` refines it).

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
    pieces, shift = arrows.arrow(params, problem), (low + high) / 2
    inverses = _inverses(pieces, *_diagonal_blocks(pieces), shift)
    factored = arrows.eliminated(pieces, shift, inverses)
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
    """An interval around the eigenvalue, as narrow as the counts can make it."""
    K, d = problem.num_classes, problem.feature_dim
    total = K * (d + 1) + problem.num_samples * d
    place = jnp.where(index < 0, jnp.asarray(total + index, index.dtype), index)
    bound = _norm_bound(params, problem)
    steps = 2 + int(-math.log2(_relative(params)))

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
