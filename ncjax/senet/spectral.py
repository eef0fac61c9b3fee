"""Spectral clustering of an affinity, as the official code of 2110.04318 has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize
from sklearn.utils.sparsefuncs import inplace_column_scale, inplace_row_scale

STARTS = 20
"""Of k-means."""


def leading_eigenvectors(
    affinity: Any, components: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues `[components]` of the normalised affinity, ascending, and unit eigenvectors.

    It takes as much memory as the affinity once more.

    Args:
        affinity: symmetric, not negative, `[N, N]`; its diagonal is left out. All is in float32 if
            it is.
        components: how many, those of the smallest eigenvalues of the normalised Laplacian.
        seed: of the eigensolver's start.
    """
    N = affinity.shape[0]
    dtype = np.float32 if affinity.dtype == np.float32 else np.float64
    matrix = scipy.sparse.csr_array(affinity, dtype=dtype, copy=True)
    if matrix.diagonal().any():
        matrix = scipy.sparse.csr_array(matrix - scipy.sparse.diags_array(matrix.diagonal()))
    degrees = matrix.sum(1, dtype=np.float64)
    # A point without a neighbour has a row of zeros, which does not lead.
    scale = np.where(degrees > 0, degrees, 1) ** -0.5
    for scaled in (inplace_row_scale, inplace_column_scale):
        scaled(matrix, scale.astype(dtype))
    if 4 * components >= N:
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[-components:], vectors[:, -components:]
    start = np.random.default_rng(seed).normal(size=N).astype(dtype)
    return eigsh(matrix, components, which="LA", v0=start)


def spectral_clusters(vectors: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Clusters of the points of a graph, `[N]`: k-means of eigenvectors' rows at unit length.

    Args:
        vectors: of `leading_eigenvectors`, `[N, components]`; may be more than the clusters (15 for
            10 in the official code).
        clusters: their number.
        seed: of k-means' starts.
    """
    means = KMeans(clusters, n_init=STARTS, random_state=seed)
    return means.fit_predict(normalize(vectors))
