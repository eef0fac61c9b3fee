r"""Guarded Lanczos: an orthonormal Krylov basis that survives degenerate spectra.

Plain Lanczos divides by the norm of what is left after orthogonalisation. When the Krylov space is
exhausted, as at an unconstrained feature model's origin after four steps, that norm is rounding
noise, and the eigenvalues that follow are invented. Here:

* every product is orthogonalised twice against the whole basis;
* a remainder below :math:`64\,\epsilon\,\|H\|` (the norm estimated from the products) counts as
  breakdown, and a random vector orthogonal to the basis takes its place, so that further copies of
  a multiple eigenvalue can be found;
* the projected matrix is the measured one, :math:`T_{ij} = q_i^\top H q_j`, not the recurrence, so
  that its eigenvalues never leave the range of H by more than rounding;
* there are at most p steps, after which the basis spans the space.

With a block of b start vectors the same loop is band Lanczos: the product of vector j gives vector
j + b, and multiplicities up to b appear without a breakdown.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ncjax import checks

_PRECISION = jax.lax.Precision.HIGHEST

Product = Callable[[jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Krylov:
    """A Krylov basis under construction.

    Attributes:
        basis: orthonormal rows; zero where not yet built, `[m, p]`.
        projected: column j holds q_i' H q_j for the rows i that were there when j was multiplied,
            `[m, m]`.
        couplings: norm of what remained of H q_j, which became a new vector; 0 after a breakdown.
        steps: products so far, int.
        scale: largest norm of a product so far, an estimate of ||H|| from below.
        breakdowns: vectors that had to be replaced by random ones, int.
        key: of the random vectors.
    """

    basis: jax.Array
    projected: jax.Array
    couplings: jax.Array
    steps: jax.Array
    scale: jax.Array
    breakdowns: jax.Array
    key: jax.Array


def start(
    key: jax.Array,
    size: int,
    num_steps: int,
    block: int,
    dtype: jnp.dtype,
    basis_dtype: jnp.dtype,
    first: Float[Array, " p"] | None = None,
) -> Krylov:
    """A basis of its start vectors alone.

    Args:
        key: typed random key.
        size: p.
        num_steps: products to come; the basis has m = min(num_steps, p) rows.
        block: start vectors, at most m count.
        dtype: of the computation.
        basis_dtype: of the stored basis.
        first: the first start vector; the others, or all if None, are Gaussian.
    """
    m = min(num_steps, size)
    zero = jnp.zeros((), jnp.int32)
    state = Krylov(
        basis=jnp.zeros((m, size), basis_dtype),
        projected=jnp.zeros((m, m), dtype),
        couplings=jnp.zeros(m, dtype),
        steps=zero,
        scale=jnp.zeros((), dtype),
        breakdowns=zero,
        key=key,
    )
    for i in range(min(block, m)):
        vector = _gaussian(key, i, size, dtype)
        if i == 0 and first is not None:
            given = first.astype(dtype) / _positive(norm(first.astype(dtype)))
            vector = jnp.where((given == 0).all(), vector, given)
        vector = _orthogonalized(state.basis, _orthogonalized(state.basis, vector)[0])[0]
        vector = vector / _positive(norm(vector))
        state = dataclasses.replace(state, basis=_with_row(state.basis, i, vector))
    return state


def advance(product: Product, state: Krylov, count: Int[Array, ""] | int, block: int) -> Krylov:
    """Multiplies `count` more basis vectors, building those that follow them."""

    def step(_: Any, state: Krylov) -> Krylov:
        return _expand(product, state, block)

    return jax.lax.fori_loop(0, count, step, state)


def _expand(product: Product, state: Krylov, block: int) -> Krylov:
    basis, j, dtype = state.basis, state.steps, state.projected.dtype
    m, size = basis.shape
    image = product(basis[j].astype(dtype)).astype(dtype)
    scale = jnp.maximum(state.scale, norm(image))
    rest, column = _orthogonalized(basis, image)
    rest, _ = _orthogonalized(basis, rest)
    coupling = norm(rest)
    wanted = j + block < m
    broken = coupling <= 64 * float(jnp.finfo(dtype).eps) * scale
    follower = _rarely(
        broken & wanted,
        lambda basis, key, number, _: _fresh(basis, key, number, size, dtype),
        lambda _basis, _key, _number, rest: rest / _positive(norm(rest)),
        (basis, state.key, j + block, rest),
    )
    return Krylov(
        # Beyond the last row there is nothing to write; an index of m is dropped.
        basis=_with_row(basis, j + block, follower),
        projected=state.projected.at[:, j].set(column),
        couplings=state.couplings.at[j].set(jnp.where(broken, 0, coupling)),
        steps=j + 1,
        scale=scale,
        breakdowns=state.breakdowns + (broken & wanted).astype(jnp.int32),
        key=state.key,
    )


def _fresh(
    basis: jax.Array, key: jax.Array, number: jax.Array, size: int, dtype: jnp.dtype
) -> jax.Array:
    """A random unit vector orthogonal to the basis."""
    vector = _gaussian(key, number, size, dtype)
    for _ in range(3):  # near the last dimension a pass removes nearly everything
        vector, _ = _orthogonalized(basis, vector)
        vector = vector / _positive(norm(vector))
    return vector


def _rarely(
    wanted: jax.Array, then: Callable[..., Any], otherwise: Callable[..., Any], operands: tuple
) -> Any:
    """`jax.lax.cond`, of which `vmap` computes `then` only where some member wants it."""

    @jax.custom_batching.custom_vmap
    def choose(wanted: jax.Array, operands: tuple) -> Any:
        return jax.lax.cond(wanted, then, otherwise, *operands)

    @choose.def_vmap
    def _(size: int, batched: list, wanted: jax.Array, operands: tuple) -> tuple[Any, Any]:
        axes = [jax.tree.map(lambda mapped: 0 if mapped else None, part) for part in batched]

        def either(wanted: jax.Array, operands: tuple) -> Any:
            return jax.tree.map(
                functools.partial(jnp.where, wanted), then(*operands), otherwise(*operands)
            )

        def mapped(branch: Callable[..., Any]) -> Callable[..., Any]:
            return jax.vmap(branch, axes, axis_size=size)

        chosen = jax.lax.cond(
            wanted.any(),
            mapped(either),
            mapped(lambda _, operands: otherwise(*operands)),
            wanted,
            operands,
        )
        return chosen, jax.tree.map(lambda _: True, chosen)

    return choose(wanted, operands)


def _gaussian(key: jax.Array, number: jax.Array | int, size: int, dtype: jnp.dtype) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, number), (size,), dtype)


def _orthogonalized(basis: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The vector without its part in the basis, and its coefficients."""
    rows = basis.astype(vector.dtype)
    coefficients = jnp.matmul(rows, vector, precision=_PRECISION)
    return vector - jnp.matmul(coefficients, rows, precision=_PRECISION), coefficients


def _with_row(basis: jax.Array, index: jax.Array | int, row: jax.Array) -> jax.Array:
    return basis.at[index].set(row.astype(basis.dtype), mode="drop")


def norm(vector: jax.Array) -> jax.Array:
    """The Euclidean norm, safe from overflow and underflow of squares."""
    largest = jnp.abs(vector).max()
    return largest * jnp.linalg.norm(vector / _positive(largest))


def _positive(number: jax.Array) -> jax.Array:
    return jnp.where(number == 0, 1, number)


def ritz(state: Krylov) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
    """Ritz values, ascending, and their coefficients in the basis, one column each."""
    upper = jnp.triu(state.projected)
    projected = upper + jnp.triu(upper, 1).T
    if state.basis.dtype == projected.dtype:
        return jnp.linalg.eigh(projected)
    # Rounded to fewer digits the rows are only nearly orthonormal: solve T y = theta G y instead.
    rows = state.basis.astype(projected.dtype)
    gram = jnp.matmul(rows, rows.T, precision=_PRECISION)
    lower = jnp.linalg.cholesky(gram)
    solve = functools.partial(jax.scipy.linalg.solve_triangular, lower, lower=True)
    values, vectors = jnp.linalg.eigh(solve(solve(projected).T))
    return values, jax.scipy.linalg.solve_triangular(lower.T, vectors, lower=False)


def ritz_vectors(state: Krylov, coefficients: Float[Array, "m k"]) -> Float[Array, "k p"]:
    """Unit vectors of the given coefficients, as rows."""
    rows = jnp.matmul(coefficients.T, state.basis.astype(coefficients.dtype), precision=_PRECISION)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def first_weights(state: Krylov, coefficients: Float[Array, "m m"]) -> Float[Array, " m"]:
    """Squared components of the Ritz vectors along the first start vector; they sum to 1."""
    start = state.basis[0].astype(coefficients.dtype)
    if state.basis.dtype == coefficients.dtype:
        return coefficients[0] ** 2
    # Rounded rows are not orthonormal: take the components themselves.
    rows = jnp.matmul(state.basis.astype(coefficients.dtype), start, precision=_PRECISION)
    components = jnp.matmul(rows, coefficients, precision=_PRECISION) / norm(start)
    return components**2


def asymmetry(state: Krylov, block: int) -> Float[Array, ""]:
    """Largest difference of q_i' H q_j and q_j' H q_i that the run has seen: rounding, if H = H'.

    For rows that j's product created, q_i' H q_j is the coupling; q_j' H q_i is measured later.
    """
    m = len(state.couplings)
    if m <= block:
        return jnp.zeros((), state.projected.dtype)
    backward = jnp.diagonal(state.projected, offset=block)
    return jnp.abs(backward - state.couplings[: m - block]).max()


def spread_missed(num_steps: int, size: int, block: int = 1, confidence: float = 0.99) -> float:
    r"""How much of the spread a Lanczos run from random starts may have missed at either end.

    Of b Gaussian starts in p dimensions one has, with probability :math:`1 - \delta`, at least
    :math:`w = \delta^{1/b} \sqrt{\pi / 2p}` along the extreme eigenvector, and the basis holds all
    polynomials in H of degree below m/b applied to it. With the Chebyshev polynomial that is at
    most 1 on the spectrum above its lowest fraction t, the smallest Ritz value exceeds the
    smallest eigenvalue by at most

    .. math:: \min_t\; t + \left(w\, T_{\lfloor m/b \rfloor - 1}
              \!\left(\tfrac{1 + t}{1 - t}\right)\right)^{-2}

    of the whole spread, and so at the other end. Exact arithmetic is assumed; the residuals say
    what rounding did.

    Args:
        num_steps: products m.
        size: p.
        block: start vectors b.
        confidence: that it holds at both ends: delta is half of what it lacks of 1.

    Returns:
        The share, at most 1; 0 if the basis spans the space.

    Raises:
        InputError: a count below 1, or a confidence outside (0, 1).

    Examples:
        >>> print(f"{spread_missed(100, 1_000_000):.4f}")
        0.0074
    """
    for name, count in {"num_steps": num_steps, "size": size, "block": block}.items():
        checks.check_count(name, count, 1)
    checks.check_range("confidence", confidence, 0.0, 1.0, closed=False)
    if num_steps >= size:
        return 0.0
    block = min(block, num_steps)
    weight = ((1 - confidence) / 2) ** (1 / block) * math.sqrt(math.pi / (2 * size))
    best = 1.0
    for exponent in np.linspace(-8, 0, 400, endpoint=False):
        t = 10.0 ** float(exponent)
        growth = (num_steps // block - 1) * math.acosh((1 + t) / (1 - t))
        chebyshev = math.cosh(min(growth, 700.0))
        best = min(best, t + (weight * chebyshev) ** -2)
    return best
