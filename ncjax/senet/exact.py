"""Subspace clustering by exact solvers of self-expression, behind the same call as SENet."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse
from sklearn.linear_model import orthogonal_mp

from ncjax import checks
from ncjax.senet.affinity import Graph
from ncjax.senet.elastic_net import ElasticNet, exact_coefficients
from ncjax.senet.estimators import SubspaceClustering


class ElasticNetClustering(SubspaceClustering):
    """Elastic-net subspace clustering (1605.02633): exact coefficients by coordinate descent.

    It has the attributes of `SubspaceClustering`.

    Args:
        n_clusters: K.
        gamma: weight of the residual.
        lam: weight of the l1 norm against the squared l2 norm.
        tolerance: see `exact_coefficients`.
        graph: see `SENet`; symmetric is usual here.
        neighbours: see `SENet`.
        components: see `SENet`.
        random_state: a seed.
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        gamma: float = 200.0,
        lam: float = 0.9,
        tolerance: float = 1e-4,
        graph: Graph = "symmetric",
        neighbours: int = 3,
        components: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.gamma = gamma
        self.lam = lam
        self.tolerance = tolerance
        self.graph = graph
        self.neighbours = neighbours
        self.components = components
        self.random_state = random_state

    def _coefficients(self, X: np.ndarray) -> scipy.sparse.csr_array:
        net = ElasticNet(self.gamma, self.lam)
        rows = np.array_split(np.arange(len(X)), -(-len(X) // 256))
        found = (exact_coefficients(net, X, part, tolerance=self.tolerance) for part in rows)
        return scipy.sparse.vstack([scipy.sparse.csr_array(part) for part in found], format="csr")


class OMPClustering(SubspaceClustering):
    """Sparse subspace clustering by orthogonal matching pursuit (SSC-OMP, 1507.01238).

    It has the attributes of `SubspaceClustering`.

    Args:
        n_clusters: K.
        n_nonzero: coefficients of a point, at most; fewer where it is met or there are no more.
        graph: see `SENet`; symmetric is usual here.
        neighbours: see `SENet`.
        components: see `SENet`.
        random_state: a seed.
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        n_nonzero: int = 10,
        graph: Graph = "symmetric",
        neighbours: int = 3,
        components: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_nonzero = n_nonzero
        self.graph = graph
        self.neighbours = neighbours
        self.components = components
        self.random_state = random_state

    def _check_settings(self, count: int) -> None:
        super()._check_settings(count)
        checks.check_count("n_nonzero", self.n_nonzero, 1)

    def _coefficients(self, X: np.ndarray) -> scipy.sparse.csr_array:
        keys = X.T.astype(np.float64, order="F")
        most = min(self.n_nonzero, *keys.shape, len(X) - 1)
        parts = []
        with warnings.catch_warnings():
            # It ends early where a point is met exactly, as a duplicate is.
            warnings.filterwarnings("ignore", "Orthogonal matching pursuit ended prematurely")
            for row in range(len(X)):
                point = keys[:, row].copy()
                keys[:, row] = 0  # a point of no length is never chosen
                found = orthogonal_mp(keys, point, n_nonzero_coefs=most)
                parts.append(scipy.sparse.csr_array(found[None, :]))
                keys[:, row] = point
        return scipy.sparse.csr_array(scipy.sparse.vstack(parts))
