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
    checks.check_like("vector", vector, "params", params)
    return jax.jvp(jax.grad(f), (params,), (vector,))[1]


def hessian_product(
    f: Callable[[Tree], jax.Array], params: Tree
) -> tuple[jax.Array, Tree, Callable[[Tree], Tree]]:
    """Value and gradient of f, and its Hessian as a linear function of a vector.

    The gradient is linearised here, once; each product then costs less than two gradients.

    Args:
        f: scalar function of a pytree of floating-point arrays.
        params: the point.
    """

    def gradient_and_value(params: Tree) -> tuple[Tree, jax.Array]:
        value, gradient = jax.value_and_grad(f)(params)
        return gradient, value

    gradient, product, value = jax.linearize(gradient_and_value, params, has_aux=True)
    return value, gradient, product


def inner(first: Tree, second: Tree) -> Float[Array, ""]:
    """The inner product of two pytrees of equal structure."""
    products = jax.tree.map(lambda a, b: (a * b).sum(), first, second)
    return jax.tree.reduce(jnp.add, products)


def global_norm(tree: Tree) -> Float[Array, ""]:
    """The Euclidean norm of a pytree as one vector."""
    return jnp.sqrt(inner(tree, tree))
