"""Hessian-vector products over pytrees, and the inner product they are measured with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax import checks

Tree = TypeVar("Tree")


def hvp(f: Callable[[Tree], jax.Array], params: Tree, vector: Tree) -> Tree:
    """The product of f's Hessian at `params` with `vector`: forward over reverse.

    Args:
        f: scalar function of a pytree of floating-point arrays.
        params: the point.
        vector: a pytree of the structure and shapes of `params`.

    Returns:
        H v, a pytree like `params`. Costs about two gradients and never forms H.

    Raises:
        InputError: the two pytrees differ in structure or shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> hvp(lambda x: (x**3).sum(), jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
        Array([ 6., 12.], dtype=float32)
    """
    came, accepted = (jax.tree.structure(tree) for tree in (vector, params))
    if came == accepted:
        came, accepted = ([jnp.shape(x) for x in jax.tree.leaves(t)] for t in (vector, params))
    if came != accepted:
        raise checks.reject("vector", came, f"a pytree like params, {accepted}")
    return jax.jvp(jax.grad(f), (params,), (vector,))[1]


def inner(first: Tree, second: Tree) -> Float[Array, ""]:
    """The inner product of two pytrees of equal structure."""
    products = jax.tree.map(lambda a, b: (a * b).sum(), first, second)
    return jax.tree.reduce(jnp.add, products)


def global_norm(tree: Tree) -> Float[Array, ""]:
    """The Euclidean norm of a pytree as one vector."""
    return jnp.sqrt(inner(tree, tree))
