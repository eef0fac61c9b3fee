"""The nearest-subspace classifier, on features or on raw pixels as the baseline of every claim."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ncjax import checks
from ncjax.types import Samples


class NearestSubspace(ClassifierMixin, BaseEstimator):
    """Assigns a sample to the class in whose leading subspace it has the smallest residual.

    Args:
        dim: dimension of a class's subspace (leading right singular vectors, not centred); smaller
            where a class has fewer samples, and at most d - 1: the whole space tells nothing.
    """

    def __init__(self, dim: int = 10) -> None:
        self.dim = dim

    def fit(self, X: Samples, y: Samples) -> NearestSubspace:
        """Finds the subspaces.

        Args:
            X: `[N, d]`.
            y: class labels `[N]`.

        Raises:
            InputError: dim below 1.
        """
        checks.check_count("dim", self.dim, 1)
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        most = max(1, min(self.dim, X.shape[1] - 1))
        self.bases_ = [
            np.linalg.svd(X[y == name], full_matrices=False)[2][:most] for name in self.classes_
        ]
        return self

    def decision_function(self, X: Samples) -> np.ndarray:
        """Squared length of the projection on each class's subspace, `[N, K]`.

        As scikit-learn has it, of two classes the difference, `[N]`.
        """
        lengths = self.lengths(X)
        return lengths[:, 1] - lengths[:, 0] if lengths.shape[1] == 2 else lengths

    def predict(self, X: Samples) -> np.ndarray:
        """The class of each sample."""
        nearest = self.lengths(X).argmax(1)
        return self.classes_[nearest]

    def __sklearn_tags__(self) -> Any:
        """Subspaces contain the origin, so that blobs at different distances are not told apart."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags

    def lengths(self, X: Samples) -> np.ndarray:
        """Squared length of the projection on each class's subspace, `[N, K]`, whatever K is."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return np.stack([np.square(X @ basis.T).sum(1) for basis in self.bases_], axis=1)
