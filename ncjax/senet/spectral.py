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


def spectral_embedding(affinity: Any, components: int, seed: int = 0) -> np.ndarray:
    """Leading eigenvectors of the normalised affinity, rows at unit length, `[N, components]`.

    Points without a neighbour have zeros.

    Args:
        affinity: symmetric, not negative, `[N, N]`.
        components: eigenvectors, those of the smallest eigenvalues of the normalised Laplacian.
        seed: of the eigensolver's start.
    """
    N = affinity.shape[0]
    affinity = scipy.sparse.csr_array(affinity, dtype=np.float64)
    connected = (affinity.sum(0) - affinity.diagonal() > 0).astype(np.float64)
    # SciPy's Laplacian of a point without a neighbour is zero: there it must not count as leading.
    matrix = scipy.sparse.diags_array(connected) - laplacian(affinity, normed=True)
    start = np.random.default_rng(seed).normal(size=N)
    if 4 * components >= N:
        vectors = np.linalg.eigh(matrix.toarray())[1][:, -components:]
    else:
        vectors = eigsh(matrix, components, which="LA", v0=start)[1]
    return normalize(vectors)


def spectral_clusters(affinity: Any, clusters: int, components: int, seed: int = 0) -> np.ndarray:
    """Clusters of the points of a graph, `[N]`: k-means of the embedding.

    Args:
        affinity: symmetric, not negative, `[N, N]`.
        clusters: their number.
        components: of the embedding; may exceed the clusters (15 for 10 in the official code).
        seed: of the eigensolver's and of k-means' starts.
    """
    embedding = spectral_embedding(affinity, components, seed)
    return KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(embedding)
