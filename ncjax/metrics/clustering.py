"""Scores of clusterings and of the affinities behind them; labels are used here alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.sparse.linalg import eigsh
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ncjax import checks
from ncjax.types import Samples

_DENSE = 500
"""Points of a class up to which its Laplacian is decomposed as a dense matrix."""


@dataclasses.dataclass(frozen=True)
class ClusteringScores:
    """How well clusters agree with classes: 1 where they are the same up to names.

    Attributes:
        accuracy: share of points in the right cluster, under the best matching (ACC).
        nmi: normalised mutual information, by the geometric mean of the entropies.
        ari: adjusted Rand index; 0 expected of random clusters.
    """

    accuracy: float
    nmi: float
    ari: float


def clustering_scores(labels: Samples, clusters: Samples) -> ClusteringScores:
    """The three scores that papers on subspace clustering report.

    Args:
        labels: classes, of any type, `[N]`.
        clusters: of the same points, `[N]`.

    Raises:
        InputError: no point, or different lengths.
    """
    return ClusteringScores(
        clustering_accuracy(labels, clusters),
        float(normalized_mutual_info_score(labels, clusters, average_method="geometric")),
        float(adjusted_rand_score(labels, clusters)),
    )


def clustering_accuracy(labels: Samples, clusters: Samples) -> float:
    """Share of points in the right cluster, clusters being matched one to one with classes.

    The matching is the best one (Hungarian algorithm); clusters beyond the number of classes count
    as wrong.

    Args:
        labels: classes, of any type, `[N]`.
        clusters: of the same points, `[N]`.

    Raises:
        InputError: no point, or different lengths.

    Examples:
        >>> clustering_accuracy(["a", "a", "b", "b"], [1, 1, 0, 1])
        0.75
    """
    labels, clusters = np.asarray(labels), np.asarray(clusters)
    if labels.ndim != 1 or not len(labels):
        raise checks.reject("labels", f"shape {labels.shape}", "of shape [N], not empty")
    checks.check_shape("clusters", clusters, labels.shape, "[N]")
    counts = contingency_matrix(labels, clusters)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


def subspace_preserving_error(
    affinity: Any, labels: Samples, key_labels: Samples | None = None
) -> float:
    """Share of a point's coefficients that goes to other classes, in the mean over points.

    By absolute values; 0 where every point is written in points of its own class alone. Points
    without coefficients are left out.

    Args:
        affinity: coefficients or affinities, `[M, N]`, sparse or dense.
        labels: classes of the points that are written, `[M]`.
        key_labels: classes of those they are written in, `[N]`; the same points if None.

    Raises:
        InputError: shapes that differ, NaN, or no coefficient at all.
    """
    labels = np.asarray(labels)
    keys = labels if key_labels is None else np.asarray(key_labels)
    checks.check_shape("affinity", affinity, (len(labels), len(keys)), "[M, N]")
    entries = abs(scipy.sparse.csr_array(affinity)).tocoo()
    checks.check_finite("affinity", entries.data)
    own = labels[entries.row] == keys[entries.col]
    total = np.bincount(entries.row, entries.data, len(labels))
    kept = np.bincount(entries.row, entries.data * own, len(labels))
    there = total > 0
    if not there.any():
        raise checks.reject("affinity", "no entry but zeros", "an affinity between some points")
    return float(1 - (kept[there] / total[there]).mean())


def connectivity(affinity: Any, labels: Samples) -> float:
    """How well points of a class hang together: the least algebraic connectivity over classes.

    The second smallest eigenvalue of the normalised Laplacian of each class's symmetrised
    affinity; 0 where a class falls apart, so that spectral clustering may split it.

    Args:
        affinity: coefficients or affinities, `[N, N]`, sparse or dense.
        labels: classes `[N]`.

    Raises:
        InputError: no point, shapes that differ, or NaN.
    """
    labels = np.asarray(labels)
    if not len(labels):
        raise checks.reject("labels", "no point", "classes of at least one")
    checks.check_shape("affinity", affinity, (len(labels), len(labels)), "[N, N]")
    affinity = scipy.sparse.csr_array(affinity)
    checks.check_finite("affinity", affinity.data)
    symmetric = (abs(affinity) + abs(affinity).T).tocsr() / 2
    groups = (np.flatnonzero(labels == name) for name in np.unique(labels))
    return min(_second_eigenvalue(symmetric[rows][:, rows]) for rows in groups)


def _second_eigenvalue(affinity: scipy.sparse.csr_array) -> float:
    """Of the normalised Laplacian of a graph; 0 of one that falls apart."""
    parts, _ = connected_components(affinity, directed=False)
    if parts > 1 or affinity.shape[0] < 2:
        return 0.0
    matrix = laplacian(affinity.astype(np.float64), normed=True)
    if affinity.shape[0] <= _DENSE:
        return float(np.linalg.eigvalsh(matrix.toarray())[1])
    turned = 2 * scipy.sparse.eye_array(affinity.shape[0]) - matrix
    start = np.random.default_rng(0).normal(size=affinity.shape[0])
    return float(2 - eigsh(turned, 2, which="LA", v0=start, return_eigenvectors=False)[0])
