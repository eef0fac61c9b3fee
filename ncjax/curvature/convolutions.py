"""Singular values of convolutions: exact ones of circular ones, the largest of any linear map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ncjax import checks
from ncjax.curvature.products import global_norm
from ncjax.types import AnyArray


def conv_singular_values(
    kernel: Float[AnyArray, "*sizes I O"], grid: Sequence[int], *, groups: int = 1
) -> Float[Array, "*grid r"]:
    """All singular values of a circular convolution, exactly (Sedghi et al. 2019, 1805.10408).

    At each frequency a circular convolution is the matrix `[O, I groups]` of its kernel's
    transforms; its singular values are those of all these matrices together. Zero padding only
    restricts the operator, so that the largest is a bound there (`operator_norm` is exact).

    Args:
        kernel: with zeros between the taps if it is dilated.
        grid: size of the input along each axis.
        groups: of channels.

    Returns:
        The singular values at each frequency, largest first; r = min(I groups, O), groups in turn.

    Raises:
        InputError: a kernel larger than the grid, or channels that are no multiple of the groups.

    Examples:
        >>> kernel = jnp.ones((3, 1, 1))  # sums of three neighbours on a ring
        >>> print(conv_singular_values(kernel, (4,)).ravel())
        [3. 1. 1. 1.]
    """
    kernel = jnp.asarray(kernel)
    sizes, (inputs, outputs) = kernel.shape[:-2], kernel.shape[-2:]
    if len(sizes) != len(grid) or any(k > n for k, n in zip(sizes, grid, strict=True)):
        raise checks.reject("kernel", f"{sizes} wide", f"no larger than the grid {tuple(grid)}")
    if outputs % groups:
        raise checks.reject("groups", groups, f"a divisor of the {outputs} output channels")
    transfer = jnp.fft.fftn(kernel, tuple(grid), axes=tuple(range(len(grid))))
    transfer = transfer.reshape(*grid, inputs, groups, outputs // groups)
    values = jnp.linalg.svd(jnp.moveaxis(transfer, -2, -3), compute_uv=False)
    return values.reshape(*grid, -1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OperatorNorm:
    """The largest singular value of a linear map, as power iteration found it.

    Attributes:
        value: a lower bound, which it approaches.
        residual: |M'M x - value^2 x| over value^2: an eigenvalue of M'M lies as close.
        converged: whether that is below the tolerance.
    """

    value: Float[Array, ""]
    residual: Float[Array, ""]
    converged: Bool[Array, ""]


def operator_norm(
    linear: Callable[[Any], Any],
    like: Any,
    *,
    key: Key[Array, ""] | None = None,
    num_steps: int = 1000,
    tolerance: float = 1e-3,
) -> OperatorNorm:
    """The largest singular value of any linear map between pytrees, by power iteration.

    Args:
        linear: the map, as a convolution with zero padding.
        like: something of the shape and type of its input.
        key: of the start; `jax.random.key(0)` if None.
        num_steps: at most so many products with M'M.
        tolerance: of the residual, at which it stops; the value is off by less than its square
            where the gap to the next one is not tiny.

    Raises:
        InputError: no step.
    """
    checks.check_count("num_steps", num_steps, 1)
    start = _random_like(jax.random.key(0) if key is None else key, like)
    transposed = jax.linear_transpose(linear, start)

    def gram(x: Any) -> Any:
        return transposed(linear(x))[0]

    def going_on(at: tuple) -> jax.Array:
        step, _, _, residual = at
        return (step < num_steps) & (residual > tolerance)

    def again(at: tuple) -> tuple:
        step, x, _, _ = at
        image = gram(x)
        square = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (x, image)), strict=True))
        off = global_norm(jax.tree.map(lambda a, b: a - square * b, image, x))
        length = global_norm(image)
        scale = jnp.where(length > 0, length, 1)
        residual = jnp.where(square > 0, off / jnp.where(square > 0, square, 1), 0)
        return step + 1, jax.tree.map(lambda a: a / scale, image), square, residual

    zero = jnp.zeros((), jax.tree.leaves(start)[0].dtype)
    first = (0, start, zero, jnp.full_like(zero, np.inf))
    _, _, square, residual = jax.lax.while_loop(going_on, again, first)
    return OperatorNorm(jnp.sqrt(jnp.maximum(square, 0)), residual, residual <= tolerance)


def _random_like(key: jax.Array, like: Any) -> Any:
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(one, leaf.shape, leaf.dtype)
        for one, leaf in zip(keys, leaves, strict=True)
    ]
    start = jax.tree.unflatten(tree, drawn)
    length = global_norm(start)
    return jax.tree.map(lambda leaf: leaf / length, start)
