"""The whole matrix of a small operator, and the count of its eigenvalues' signs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.curvature.program import Function, Local, Located, locate
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signs:
    """How many eigenvalues are negative, zero and positive, and what counted as zero.

    Attributes:
        negative: eigenvalues below -tolerance, int scalar (the Morse index).
        zero: eigenvalues within the tolerance of zero.
        positive: eigenvalues above the tolerance.
        tolerance: the tolerance used.
    """

    negative: jax.Array
    zero: jax.Array
    positive: jax.Array
    tolerance: jax.Array


def hessian_matrix(f: Function, params: Any) -> Float[Array, "p p"]:
    """The matrix of a Hessian, or of another operator, over the flattened pytree, symmetrised.

    Args:
        f: scalar function of a pytree of floating-point arrays, linear map, or `Operator`.
        params: the point; leaves are flattened in the order of `jax.tree.leaves`.

    Returns:
        `[p, p]`. Maps over points with `vmap`.

    Raises:
        InputError: unfit input (`extreme_eigenpairs` has the list), or a matrix beyond memory.
    """
    located = locate(f, params)
    check_dense_memory(located)
    return located.run(matrix)


def matrix(local: Local) -> Float[Array, "p p"]:
    """The algorithm of `hessian_matrix`: products with unit vectors, 64 at a time beyond 512."""
    size = len(local.point)
    at_once = size if size <= 512 else 64
    chunks = -(-size // at_once)
    units = jnp.eye(chunks * at_once, size, dtype=local.point.dtype)
    columns = jax.lax.map(jax.vmap(local.product), units.reshape(chunks, at_once, size))
    columns = columns.reshape(-1, size)[:size]
    return (columns + columns.T) / 2


def signs(
    eigenvalues: Float[AnyArray, " p"],
    tolerance: Float[AnyArray, ""] | float | None = None,
) -> Signs:
    """Counts eigenvalues below, within and above a tolerance of zero.

    Args:
        eigenvalues: `[p]`, any order.
        tolerance: at least 0; by default `rounding` of the largest magnitude.

    Returns:
        `Signs`.

    Raises:
        InputError: negative tolerance, no eigenvalue, or one that is NaN (under `jit` a NaN
            counts nowhere).
    """
    checks.check_shape("eigenvalues", eigenvalues, (None,), "[p]")
    eigenvalues = jnp.asarray(eigenvalues)
    checks.check_count("number of eigenvalues", eigenvalues.size, 1)
    checks.check_finite("eigenvalues", eigenvalues)
    if tolerance is None:
        tolerance = rounding(jnp.abs(eigenvalues).max())
    checks.check_range("tolerance", tolerance, 0.0)
    tolerance = jnp.asarray(tolerance, eigenvalues.dtype)
    negative = (eigenvalues < -tolerance).sum()
    positive = (eigenvalues > tolerance).sum()
    zero = (jnp.abs(eigenvalues) <= tolerance).sum()
    return Signs(negative, zero, positive, tolerance)


def rounding(scale: Float[Array, ""]) -> Float[Array, ""]:
    """What rounding may add to an eigenvalue: 100 epsilon ||H||, with room for long sums."""
    return 100 * float(jnp.finfo(scale.dtype).eps) * scale


def check_dense_memory(located: Located) -> None:
    """Refuses a dense spectrum that does not fit: matrix, copy, eigenvectors and workspace."""
    needed = 5 * located.size**2 * located.dtype.itemsize
    checks.check_memory(
        "backend", f"the dense matrix of {located.size:,} parameters", needed, "'lanczos'"
    )


def check_basis_memory(located: Located, num_steps: int, basis_dtype: jnp.dtype) -> None:
    """Refuses a Krylov basis that does not fit in memory."""
    needed = num_steps * located.size * jnp.dtype(basis_dtype).itemsize
    what = f"a basis of {num_steps} vectors of {located.size:,} parameters"
    checks.check_memory("num_steps", what, needed, "fewer steps, or a `basis_dtype` of fewer bytes")
