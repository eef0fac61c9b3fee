"""Spectral clustering of an affinity, as the official code of 2110.04318 has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

STARTS = 20
"""Of k-means."""


def leading_eigenvectors(
    affinity: Any, components: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues `[components]` of the normalised affinity, ascending, and unit eigenvectors.

    Args:
        affinity: symmetric, not negative, `[N, N]`.
        components: how many, those of the smallest eigenvalues of the normalised Laplacian.
        seed: of the eigensolver's start.
    """
    N = affinity.shape[0]
    affinity = scipy.sparse.csr_array(affinity, dtype=np.float64, copy=True)
    connected = (affinity.sum(0) - affinity.diagonal() > 0).astype(np.float64)
    # SciPy's Laplacian of a point without a neighbour is zero: there it must not count as leading.
    matrix = scipy.sparse.diags_array(connected) - laplacian(affinity, normed=True, copy=False)
    if 4 * components >= N:
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[-components:], vectors[:, -components:]
    start = np.random.default_rng(seed).normal(size=N)
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
