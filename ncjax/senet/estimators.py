"""Subspace clustering in scikit-learn's manner: what all estimators share, and SENet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted, validate_data

from ncjax import checks
from ncjax.senet.affinity import Graph, graph_of, largest_coefficients
from ncjax.senet.elastic_net import ElasticNet
from ncjax.senet.model import SelfExpressiveNet, Start, standardised
from ncjax.senet.spectral import leading_eigenvectors, spectral_clusters
from ncjax.senet.training import Optimizer, TrainConfig, train
from ncjax.types import AnyArray, Samples

TOP = 1000
"""Coefficients of a point that are kept where nothing is said."""


class SubspaceClustering(ClusterMixin, BaseEstimator):
    """What all of them share: coefficients of points on each other, a graph, its clusters.

    It is not used itself.

    Attributes:
        labels_: cluster of each point, `[N]`.
        coefficients_: of each point on all others, sparse `[N, N]`.
        eigenvalues_: of the graph's normalised affinity, the leading ones, ascending.
        eigenvectors_: the same, `[N, components]`.
        n_features_in_: D.
    """

    def fit(self, X: Samples, y: Any = None) -> SubspaceClustering:
        """Clusters points; where that fails, all stays as it was.

        Args:
            X: points `[N, D]`; taken at unit length.
            y: not used.

        Returns:
            Itself.

        Raises:
            InputError: unfit settings, fewer points than clusters, a point that is zero, or no
                point with a coefficient on another.
            ValueError: NaN, or another shape.
        """
        del y
        before = dict(vars(self))
        try:
            self._fit(self._points(X, reset=True))
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        return self

    def affinity(self) -> scipy.sparse.csr_array:
        """The graph of the points that were clustered, symmetric, sparse `[N, N]`."""
        check_is_fitted(self, "coefficients_")
        neighbours = min(self.neighbours, self.coefficients_.shape[0] - 1)
        return graph_of(self.coefficients_, self.graph, neighbours)

    def _fit(self, X: np.ndarray) -> None:
        self.coefficients_ = self._coefficients(X)
        if not self.coefficients_.nnz:
            got = "points that take no coefficient on each other"
            accepted = "such that gamma |x_i . x_j| exceeds lam for some"
            raise checks.reject("X", got, accepted, self._remedy)
        components = self.n_clusters if self.components is None else self.components
        self.eigenvalues_, self.eigenvectors_ = leading_eigenvectors(
            self.affinity(), min(components, len(X)), self.random_state
        )
        self.labels_ = spectral_clusters(self.eigenvectors_, self.n_clusters, self.random_state)

    _remedy = "Raise `gamma`."

    def _coefficients(self, X: np.ndarray) -> scipy.sparse.csr_array:
        raise NotImplementedError

    def _check_settings(self, count: int) -> None:
        checks.check_count("n_clusters", self.n_clusters, 1)
        checks.check_choice("graph", self.graph, ("neighbours", "symmetric"))
        checks.check_count("neighbours", self.neighbours, 1)
        checks.check_count("random_state", self.random_state, 0)
        if self.components is not None:
            checks.check_count("components", self.components, 1)
        if count < max(2, self.n_clusters):
            accepted = f"at least {max(2, self.n_clusters)}, one for each cluster"
            raise checks.reject("X", f"{count} sample(s)", accepted)

    def _points(self, X: Samples, *, reset: bool) -> np.ndarray:
        X = validate_data(self, X, reset=reset, dtype=np.float32)
        if reset:
            self._check_settings(len(X))
        zero = np.flatnonzero(~X.any(axis=1))
        if len(zero):
            got = f"{len(zero)} sample(s) without a direction (the first is {zero[0]})"
            raise checks.reject("X", got, "samples that are not zero", "Leave them out.")
        return normalize(X / np.abs(X).max(1, keepdims=True))


class SENet(TransformerMixin, SubspaceClustering):
    """Subspace clustering by a self-expressive network, which takes new points too (2110.04318).

    Matrix products have JAX's default precision; accelerators round them less under
    `jax.default_matmul_precision("highest")`.

    Args:
        n_clusters: K.
        gamma: weight of the residual; 200 for images in the official code, 150 for letters.
        lam: weight of the l1 norm against the squared l2 norm.
        widths: of the perceptrons' hidden layers; three of 1,024 in the paper.
        dim: p, of queries and keys; 1,024 in the paper.
        start: see `SelfExpressiveNet`.
        train_size: points, drawn at random, that the network is trained on; all if None. All
            points are clustered.
        steps: of training, at most.
        batch_size: queries a step; 100 in the paper.
        block: keys in memory at a time while it is trained.
        optimizer: "muon" or, as in the paper, "adam".
        learning_rate: of it; 1e-3 for Adam in the paper.
        clip: norm that gradients are clipped to; 1e-3 in the official code.
        tolerance: see `TrainConfig`.
        top: largest coefficients of a point that are kept, fewer than there are points; 1,000, as
            in the official code, or all if there are no more, where it is None.
        graph: "neighbours" or "symmetric" (`ncjax.senet.affinity.graph_of`).
        neighbours: of a point in the graph, at most all others.
        components: eigenvectors of the graph, at most as many as points, K if None; 15 for ten
            clusters in the official code.
        warm_start: whether `fit` goes on from the network of the call before.
        random_state: a seed.
        verbose: a progress bar over training.

    Attributes:
        labels_: cluster of each point.
        coefficients_: of each point on all others, sparse.
        eigenvalues_: see `SubspaceClustering`; a gap after the first K speaks for K clusters.
        eigenvectors_: the same.
        model_: the network.
        training_: `Trained`: its parameters, losses, and how optimal coefficients were.
        points_: all points at unit length, which new ones are written in.
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        gamma: float = 200.0,
        lam: float = 0.9,
        widths: tuple[int, ...] = (1024, 1024, 1024),
        dim: int = 1024,
        start: Start = "tied",
        train_size: int | None = None,
        steps: int = 500,
        batch_size: int = 2000,
        block: int = 8192,
        optimizer: Optimizer = "muon",
        learning_rate: float = 0.03,
        clip: float | None = None,
        tolerance: float = 0.0,
        top: int | None = None,
        graph: Graph = "neighbours",
        neighbours: int = 3,
        components: int | None = None,
        warm_start: bool = False,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.gamma = gamma
        self.lam = lam
        self.widths = widths
        self.dim = dim
        self.start = start
        self.train_size = train_size
        self.steps = steps
        self.batch_size = batch_size
        self.block = block
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.clip = clip
        self.tolerance = tolerance
        self.top = top
        self.graph = graph
        self.neighbours = neighbours
        self.components = components
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Samples) -> np.ndarray:
        """The cluster of new points: the one that their coefficients, at unit length, favour.

        A point without coefficients has those of an offset of zero instead.

        Args:
            X: points `[M, D]`.

        Returns:
            Clusters `[M]`.
        """
        check_is_fitted(self, "training_")
        points = self._points(X, reset=False)
        found = self._on_keys(points, self.points_, same=False)
        members = np.eye(self.labels_.max() + 1)[self.labels_]
        votes = np.asarray(abs(found) @ members)
        none = ~votes.any(1)
        if none.any():
            weak = self._on_keys(points[none], self.points_, same=False, offset=0.0)
            votes[none] = abs(weak) @ members
        return votes.argmax(1)

    def transform(self, X: Samples) -> scipy.sparse.csr_array:
        """Coefficients of new points on those that were clustered, sparse `[M, N]`.

        Unlike those in `coefficients_`, which `fit_transform` therefore does not give, a point that
        was clustered too has a coefficient on itself.

        Args:
            X: points `[M, D]`.
        """
        check_is_fitted(self, "training_")
        return self._on_keys(self._points(X, reset=False), self.points_, same=False)

    def __sklearn_tags__(self) -> Any:
        """Coefficients are float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_settings(self, count: int) -> None:
        super()._check_settings(count)
        if self.top is not None:
            checks.check_count("top", self.top, 1)
            if self.top > count - 1:
                accepted = f"at most {count - 1}, the other points"
                raise checks.reject("top", self.top, accepted)
        if not isinstance(self.widths, Sequence) or isinstance(self.widths, str):
            raise checks.reject("widths", repr(self.widths), "a tuple of integers")
        for width in self.widths:
            checks.check_count("widths", width, 1)
        checks.check_count("dim", self.dim, 1)
        checks.check_choice("start", self.start, ("tied", "official"))
        if self.train_size is not None:
            checks.check_count("train_size", self.train_size, 2)
            if self.train_size > count:
                raise checks.reject("train_size", self.train_size, f"at most {count}, the points")

    _remedy = "Raise `gamma`, or lower `learning_rate`."

    def _coefficients(self, X: np.ndarray) -> scipy.sparse.csr_array:
        count = len(X) if self.train_size is None else self.train_size
        rows = np.random.default_rng(self.random_state).permutation(len(X))[:count]
        config = TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            block=self.block,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            clip=self.clip,
            tolerance=self.tolerance,
            seed=self.random_state,
            verbose=self.verbose,
        )
        before = getattr(self, "training_", None) if self.warm_start else None
        self.points_ = X
        self.model_ = SelfExpressiveNet(tuple(self.widths), self.dim, self.start)
        net = ElasticNet(self.gamma, self.lam)
        self.training_ = train(self.model_, X[np.sort(rows)], net, config, before)
        return self._on_keys(X, X, same=True)

    def _on_keys(
        self, points: np.ndarray, keys: np.ndarray, *, same: bool, offset: float | None = None
    ) -> scipy.sparse.csr_array:
        """The largest coefficients of points on keys; none of a point on itself if the same."""
        queries, all_keys = (
            self._embedded(method, x) for method, x in (("queries", points), ("keys", keys))
        )
        kept = min(TOP if self.top is None else self.top, len(keys) - same)
        learned = self.training_.params["offset"]
        return largest_coefficients(
            queries, all_keys, learned if offset is None else offset, kept, same=same
        )

    def _embedded(self, method: str, x: np.ndarray) -> jax.Array:
        """Queries or keys of points, a block at a time."""
        trained, size, parts = self.training_, min(len(x), self.block), []
        for start in range(0, len(x), size):
            part = x[np.minimum(np.arange(start, start + size), len(x) - 1)]
            found = _embed(self.model_, method, trained.params, part, trained.mean)
            parts.append(found[: len(x) - start])
        return jnp.concatenate(parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(
    model: SelfExpressiveNet, method: str, params: Any, points: AnyArray, mean: AnyArray
) -> jax.Array:
    return model.apply({"params": params}, standardised(points, mean), method=method)
