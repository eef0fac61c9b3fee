"""Exact counts of Hessian eigenvalues by Haynsworth's inertia additivity.

The number of eigenvalues of H below t is that of the negative ones of H - tI, which is that of its
blocks plus that of their Schur complement (`ncjax.ufm.arrow`). No Krylov method gives such counts
on spectra with a hundred zeros. A compact point's rows and columns that were left out are counted
in closed form:

* of a row that stands for m samples, m - 1 directions part the samples and see its block alone;
* a feature column of zeros sees, whatever the point, only the singular values s of the loss
  gradient: eigenvalues of [[lambda_w, s], [s, lambda_h]], and lambda_h for the other samples.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ncjax import checks
from ncjax.curvature import Signs
from ncjax.types import Scalar
from ncjax.ufm import arrow as arrows
from ncjax.ufm.certificate import escape_eigenvalues
from ncjax.ufm.problem import Params, Problem, check_params

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
        `vmap`; -1 where the point, which then can't be refused, is not finite.

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
    blocks = diagonal_blocks(pieces)
    columns = problem.feature_dim - params.W.shape[1]

    def count(shift: jax.Array) -> jax.Array:
        gaps, factored = eliminated_at(pieces, blocks, shift)
        of_blocks = (pieces.multiplicity * _number(gaps < 0, axis=1)).sum()
        of_corner = _number_negative(factored.schur)
        unused = columns * _of_a_zero_column(pieces, problem, shift)
        counted = (of_blocks + of_corner + unused).astype(int)
        return jnp.where(jnp.isfinite(factored.schur).all(), counted, -1)

    return jax.vmap(count)(shifts)


def _number_negative(matrix: Float[Array, "p p"]) -> jax.Array:
    """How many eigenvalues of a symmetric matrix are negative.

    On CPUs JAX's eigvalsh finds eigenvectors too, for eight times the work of the tridiagonal form,
    whose pivots have the same signs (Sturm). GPUs are as fast with it, and take small matrices in
    batches; TPUs have no tridiagonal form.
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

    return jax.lax.platform_dependent(matrix, cpu=by_pivots, default=by_eigenvalues)


def _number(found: Bool[Array, " *shape"], axis: int | None = None) -> jax.Array:
    """A count, as a float, to be multiplied by class sizes."""
    return found.sum(axis).astype(jnp.zeros(()).dtype)


def diagonal_blocks(pieces: arrows.Arrow) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues of each block per sample, `[rows, d]`, and its eigenvectors, `[rows, d, d]`."""
    return jnp.linalg.eigh(pieces.blocks / pieces.multiplicity[:, None, None])


def eliminated_at(
    pieces: arrows.Arrow, blocks: tuple[jax.Array, jax.Array], shift: jax.Array
) -> tuple[Float[Array, "rows d"], arrows.Factored]:
    """H - tI with its diagonalised blocks eliminated, and the blocks' eigenvalues less t.

    An eigenvalue that the shift hits exactly is moved up by less than rounding.
    """
    curvatures, vectors = blocks
    gaps = curvatures - shift
    least = float(jnp.finfo(gaps.dtype).eps) ** 1.5 * jnp.abs(curvatures).max()
    gaps = jnp.where(jnp.abs(gaps) < least, least, gaps)
    scaled = vectors / (pieces.multiplicity[:, None] * gaps)[:, None, :]
    inverses = jnp.einsum("ief,igf->ieg", scaled, vectors, precision=_PRECISION)
    return gaps, arrows.eliminated(pieces, shift, inverses)


def _of_a_zero_column(pieces: arrows.Arrow, problem: Problem, shift: jax.Array) -> jax.Array:
    """How many of the K + N eigenvalues of an unused feature column lie below the shift."""
    g = pieces.gradients / jnp.sqrt(pieces.multiplicity)[:, None]
    sigma = jnp.linalg.svd(g, compute_uv=False)
    low, high = escape_eigenvalues(sigma, problem)
    others = problem.num_samples - problem.num_classes
    count = _number(low < shift) + _number(high < shift)
    return count + others * _number(jnp.asarray(problem.lambda_h < shift))
