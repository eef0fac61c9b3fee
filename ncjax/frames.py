"""The frames that collapsed classifiers take: the simplex ETF and the orthogonal frame.

A frame is a matrix `[K, d]` with one vector a row. Distances look at its Gram matrix `[K, K]`, so
they ignore the rotation in which the frame happens to lie.

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
    num_classes = np.shape(gram)[0]
    return _distance(gram, centering(num_classes) / math.sqrt(num_classes - 1))


def distance_to_orthogonal_frame(gram: Gram) -> Float[Array, ""]:
    """|| G/||G||_F - I/sqrt(K) ||_F: 0 for equal-norm orthogonal vectors of any scale.

    Args:
        gram: G, `[K, K]`.
    """
    num_classes = np.shape(gram)[0]
    return _distance(gram, jnp.eye(num_classes) / math.sqrt(num_classes))


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


def _distance(gram: Gram, unit_target: jax.Array) -> jax.Array:
    checks.check_shape("gram", gram, unit_target.shape, "[K, K]")
    gram = jnp.asarray(gram)
    return jnp.linalg.norm(gram / jnp.linalg.norm(gram) - unit_target.astype(gram.dtype))


def _rotated(frame: jax.Array, key: jax.Array | None) -> jax.Array:
    if key is None:
        return frame
    rotation = jax.random.orthogonal(key, frame.shape[1], dtype=frame.dtype)
    return jnp.matmul(frame, rotation, precision=jax.lax.Precision.HIGHEST)
