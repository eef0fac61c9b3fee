"""The whole Hessian of a small problem, its eigenpairs, and the count of their signs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.types import AnyArray

Tree = TypeVar("Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseEigenpairs:
    """All eigenpairs of a Hessian.

    Attributes:
        eigenvalues: ascending, `[p]`.
        eigenvectors: a pytree like the point, each leaf with a leading axis `[p, ...]`; the i-th
            entry belongs to the i-th eigenvalue and has unit norm over the whole pytree.
    """

    eigenvalues: jax.Array
    eigenvectors: object


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


def hessian_matrix(f: Callable[[Tree], jax.Array], params: Tree) -> Float[Array, "p p"]:
    """The Hessian of f over the flattened pytree, symmetrised, `[p, p]`.

    Args:
        f: scalar function of a pytree of floating-point arrays.
        params: the point; leaves are flattened in the order of `jax.tree.leaves`.
    """
    flat, unravel = ravel_pytree(params)
    matrix = jax.hessian(lambda x: f(unravel(x)))(flat)
    return (matrix + matrix.T) / 2


def dense_eigenpairs(f: Callable[[Tree], jax.Array], params: Tree) -> DenseEigenpairs:
    """All eigenpairs of f's Hessian at `params`; for p up to one or two thousand parameters.

    Args:
        f: scalar function of a pytree of floating-point arrays.
        params: the point.

    Returns:
        `DenseEigenpairs`. Maps over points with `vmap`.

    Examples:
        >>> import jax.numpy as jnp
        >>> pairs = dense_eigenpairs(lambda p: p[0] ** 2 - p[1] ** 2, (jnp.zeros(()), jnp.ones(())))
        >>> pairs.eigenvalues
        Array([-2.,  2.], dtype=float32)
    """
    params = jax.tree.map(jnp.asarray, params)
    eigenvalues, columns = jnp.linalg.eigh(hessian_matrix(f, params))
    _, unravel = ravel_pytree(params)
    return DenseEigenpairs(eigenvalues, jax.vmap(unravel)(columns.T))


def signs(
    eigenvalues: Float[AnyArray, " p"],
    tolerance: Float[AnyArray, ""] | float | None = None,
) -> Signs:
    """Counts eigenvalues below, within and above a tolerance of zero.

    Args:
        eigenvalues: `[p]`, any order.
        tolerance: at least 0; by default 10 p times machine epsilon times the largest magnitude,
            an upper estimate of the rounding in a dense solver.

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
        epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
        tolerance = 10 * eigenvalues.size * epsilon * jnp.abs(eigenvalues).max()
    checks.check_range("tolerance", tolerance, 0.0)
    tolerance = jnp.asarray(tolerance, eigenvalues.dtype)
    negative = (eigenvalues < -tolerance).sum()
    positive = (eigenvalues > tolerance).sum()
    zero = (jnp.abs(eigenvalues) <= tolerance).sum()
    return Signs(negative, zero, positive, tolerance)
