"""Minimising a scalar function of a pytree by L-BFGS, as one compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax

from ncjax.types import Scalar

Tree = TypeVar("Tree")


def lbfgs(
    f: Callable[[Tree], jax.Array], start: Tree, gradient_tol: Scalar, max_steps: int
) -> tuple[Tree, jax.Array]:
    """Runs optax's L-BFGS (memory 20, zoom line search) until the gradient is small.

    Args:
        f: scalar function.
        start: where to begin.
        gradient_tol: stop when the gradient's norm is at most this.
        max_steps: stop after this many iterations all the same.

    Returns:
        The last point, and the iterations taken (int). Works under `jit` and `vmap`.
    """
    optimizer = optax.lbfgs(memory_size=20)

    def unfinished(carry: tuple) -> jax.Array:
        _, _, _, gradient, step = carry
        return (step < max_steps) & (optax.tree.norm(gradient) > gradient_tol)

    def iterate(carry: tuple) -> tuple:
        params, state, value, gradient, step = carry
        updates, state = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=f
        )
        params = optax.apply_updates(params, updates)
        # The line search ends with value and gradient at the point it accepts.
        value, gradient = optax.tree.get(state, "value"), optax.tree.get(state, "grad")
        return params, state, value, gradient, step + 1

    value, gradient = jax.value_and_grad(f)(start)
    # optax mixes integer types in its line search, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        carry = (start, optimizer.init(start), value, gradient, jnp.zeros((), jnp.int32))
        params, _, _, _, steps = jax.lax.while_loop(unfinished, iterate, carry)
    return params, steps
