"""The frames that collapsed classifiers take: the simplex ETF, the orthogonal frame, codes.

A frame is a matrix `[K, d]` with one vector a row. Distances look at its Gram matrix `[K, K]`, so
they ignore the rotation in which the frame happens to lie. A spherical code, many unit vectors in
few dimensions as far apart as can be, is what takes the place of the simplex ETF for d < K-1.

Examples:
    >>> M = simplex_etf(4, dim=6)
    >>> (M @ M.T).round(3)
    Array([[ 1.   , -0.333, -0.333, -0.333],
           [-0.333,  1.   , -0.333, -0.333],
           [-0.333, -0.333,  1.   , -0.333],
           [-0.333, -0.333, -0.333,  1.   ]], dtype=float32)
    >>> float(distance_to_simplex_etf(M @ M.T)) < 1e-6
    True
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Array, Float, PRNGKeyArray

from ncjax import checks
from ncjax.types import AnyArray

Frame = Float[Array, "K d"]
Gram = Float[AnyArray, "K K"]


def centering(num_classes: int) -> Float[Array, "K K"]:
    """The projection P = I - 11'/K onto vectors that sum to zero, `[K, K]`."""
    return jnp.eye(num_classes) - 1 / num_classes


def simplex_etf(num_classes: int, dim: int, key: PRNGKeyArray | None = None) -> Frame:
    """A simplex equiangular tight frame with unit vectors: cosines -1/(K-1) between any two.

    The papers' fixed classifier (2105.02375): sqrt(K/(K-1)) P in the first K coordinates, the rest
    zero. For dim = K-1, the least that holds one, the same in a basis of the zero-sum vectors.

    Args:
        num_classes: K >= 2.
        dim: d >= K-1.
        key: a typed random key; rotates the frame by a uniformly random orthogonal matrix.

    Returns:
        The frame, `[K, d]`, in the default float type.

    Raises:
        InputError: K < 2, or d < K-1.
    """
    checks.check_count("num_classes", num_classes, 2)
    basis = zero_sum_isometry(num_classes, dim)
    return _rotated(math.sqrt(num_classes / (num_classes - 1)) * basis, key)


def orthogonal_frame(num_classes: int, dim: int, key: PRNGKeyArray | None = None) -> Frame:
    """K orthonormal vectors in d >= K dimensions: where MSE without a bias collapses to.

    Args:
        num_classes: K >= 1.
        dim: d >= K.
        key: a typed random key; rotates the frame by a uniformly random orthogonal matrix.

    Returns:
        The frame, `[K, d]`, in the default float type.

    Raises:
        InputError: d < K.
    """
    checks.check_count("num_classes", num_classes, 1)
    checks.check_count("dim", dim, num_classes)
    return _rotated(jnp.eye(num_classes, dim), key)


def spherical_code(num_classes: int, dim: int, key: PRNGKeyArray | None = None) -> Frame:
    """K unit vectors whose largest cosine is the least possible, where such are known.

    * d >= K-1: the simplex ETF, with cosine -1/(K-1).
    * d = 2: the regular polygon, with cosine cos(2 pi / K).
    * d+2 <= K <= 2d: vertices of the orthoplex, with cosine 0 (Rankin 1955): e_1 .. e_d and then
      -e_1 .. -e_(K-d). For K < 2d other codes do as well.

    Args:
        num_classes: K >= 2.
        dim: d >= 1.
        key: a typed random key; rotates the code by a uniformly random orthogonal matrix.

    Returns:
        The code, `[K, d]`, in the default float type.

    Raises:
        InputError: K < 2, or sizes for which no best code is listed here.
    """
    checks.check_count("num_classes", num_classes, 2)
    checks.check_count("dim", dim, 1)
    if dim >= num_classes - 1:
        return simplex_etf(num_classes, dim, key)
    if dim == 2:
        angles = 2 * math.pi / num_classes * jnp.arange(num_classes).astype(jnp.zeros(()).dtype)
        return _rotated(jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1), key)
    if dim == 1 or num_classes > 2 * dim:
        accepted = f"2 or at least {max(2, -(-num_classes // 2))} for {num_classes} vectors"
        raise checks.reject("dim", dim, accepted, "No other best code is listed.")
    axes = jnp.eye(dim)
    return _rotated(jnp.concatenate([axes, -axes[: num_classes - dim]]), key)


def zero_sum_isometry(num_classes: int, dim: int) -> Frame:
    """A `[K, d]` matrix U with U U' = P: the zero-sum vectors of R^K, isometrically in R^d.

    For d >= K it is P padded with zeros, for d = K-1 the rows of Helmert's matrix.

    Raises:
        InputError: d < K-1.
    """
    checks.check_count("num_classes", num_classes, 2)
    checks.check_count("dim", dim, num_classes - 1)
    if dim == num_classes - 1:
        return jnp.asarray(scipy.linalg.helmert(num_classes).T, jnp.zeros(()).dtype)
    return jnp.pad(centering(num_classes), ((0, 0), (0, dim - num_classes)))


def distance_to_simplex_etf(gram: Gram) -> Float[Array, ""]:
    """|| G/||G||_F - P/sqrt(K-1) ||_F: 0 for a simplex ETF of any scale, at most sqrt(2).

    The papers' NC2 and NC3 are this distance for W W' and W H' (`ncjax.metrics`).

    Args:
        gram: G, `[K, K]`, positive semidefinite or not.
    """
    return gram_distance(gram, centering(np.shape(gram)[0]))


def distance_to_orthogonal_frame(gram: Gram) -> Float[Array, ""]:
    """|| G/||G||_F - I/sqrt(K) ||_F: 0 for equal-norm orthogonal vectors of any scale.

    Args:
        gram: G, `[K, K]`.
    """
    return gram_distance(gram, jnp.eye(np.shape(gram)[0]))


def gram_distance(gram: Gram, reference: Gram) -> Float[Array, ""]:
    """|| G/||G||_F - R/||R||_F ||_F: 0 if G is R at any scale, at most sqrt(2) for Gram matrices.

    Args:
        gram: G, `[K, K]`.
        reference: R, `[K, K]`.

    Raises:
        InputError: the two are of different shapes, or G is not square.
    """
    checks.check_shape("gram", gram, np.shape(reference), "[K, K]")
    gram, reference = jnp.asarray(gram), jnp.asarray(reference)
    reference = (reference / jnp.linalg.norm(reference)).astype(gram.dtype)
    return jnp.linalg.norm(gram / jnp.linalg.norm(gram) - reference)


def alignment(first: Float[AnyArray, "K d1"], second: Float[AnyArray, "K d2"]) -> Float[Array, ""]:
    """How well one frame is the other, up to rotation and scale: 1 if it is, 0 if nothing fits.

    The optimal value of the orthogonal Procrustes problem, ||A'B||_* / (||A||_F ||B||_F); the
    frames may live in different dimensions.

    Args:
        first: A, `[K, d1]`.
        second: B, `[K, d2]`.

    Raises:
        InputError: the frames hold different numbers of vectors.
    """
    checks.check_shape("second", second, (np.shape(first)[0], None), "[K, d2]")
    first, second = jnp.asarray(first), jnp.asarray(second)
    cross = jnp.matmul(first.T, second, precision=jax.lax.Precision.HIGHEST)
    return jnp.linalg.norm(cross, "nuc") / (jnp.linalg.norm(first) * jnp.linalg.norm(second))


def largest_cosine(rows: Float[AnyArray, "K d"]) -> Float[Array, ""]:
    """The largest cosine between any two rows: what a spherical code makes least.

    Args:
        rows: `[K, d]`, K >= 2, none of them zero.

    Raises:
        InputError: fewer than two rows, or a row of zeros (under `jit`, where it can't be refused,
            the result is NaN).
    """
    unit = _unit_rows(jnp.asarray(rows))
    cosines = jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.where(np.eye(len(unit), dtype=bool), -jnp.inf, cosines).max()


def one_vs_rest_distance(rows: Float[AnyArray, "K d"]) -> float:
    """The least distance of a row to the convex hull of the others, rows scaled to unit length.

    The criterion that softmax codes make largest (the one-vs-rest margin of 2310.05351): K/(K-1)
    for a simplex ETF, 1 for an orthoplex. On the host, in float64.

    Args:
        rows: `[K, d]`, K >= 2, none of them zero.

    Raises:
        InputError: fewer than two rows, or a row of zeros.
    """
    unit = _unit_rows(np.asarray(rows, float))

    def distance(k: int) -> float:
        # The point of the hull that is nearest to the origin. Nonnegative x with least |Ax|^2 +
        # (sum x - 1)^2 is it after scaling: for y of sum 1 the best multiple leaves an increasing
        # function of |Ay|.
        A = (np.delete(unit, k, axis=0) - unit[k]).T
        ones = np.ones((1, A.shape[1]))
        x, _ = scipy.optimize.nnls(np.vstack([A, ones]), np.append(np.zeros(len(A)), 1.0))
        return float(np.linalg.norm(A @ x) / x.sum())

    return min(map(distance, range(len(unit))))


def _unit_rows(rows: Float[AnyArray, "K d"]) -> Float[AnyArray, "K d"]:
    checks.check_count("number of rows", rows.shape[0], 2)
    norms = (rows**2).sum(axis=1, keepdims=True) ** 0.5
    checks.check_range("smallest norm of the rows", norms.min(), 0.0, closed=False)
    return rows / norms


def _rotated(frame: jax.Array, key: jax.Array | None) -> jax.Array:
    if key is None:
        return frame
    rotation = jax.random.orthogonal(key, frame.shape[1], dtype=frame.dtype)
    return jnp.matmul(frame, rotation, precision=jax.lax.Precision.HIGHEST)
