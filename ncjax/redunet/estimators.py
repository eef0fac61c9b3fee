"""ReduNet as estimators: networks built forward from data, in scikit-learn's manner.

`ReduNet` takes vectors, `ShiftInvariantReduNet` signals and images, which it lifts to channels and
treats together with all their circular shifts (2105.10446).
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ncjax import checks
from ncjax.redunet.incremental import (
    ClassCovariances,
    class_covariances,
    construct_from_covariances,
)
from ncjax.redunet.layers import LayerConfig, construct, normalised, transform
from ncjax.redunet.lifting import lift, random_filters
from ncjax.redunet.rates import membership
from ncjax.redunet.spectra import FFTNorm, Spectra, from_spectra, to_spectra
from ncjax.redunet.subspaces import NearestSubspace
from ncjax.types import Samples

Construction = Literal["samples", "covariances"]
Classifier = Literal["network", "nearest_subspace", "knn", "svm"]
_NO_LABELS = "no_validation"  # scikit-learn's word for it
_CLASSIFIERS = {
    "nearest_subspace": NearestSubspace,
    "knn": KNeighborsClassifier,
    "svm": LinearSVC,
}


class ReduNet(ClassifierMixin, TransformerMixin, BaseEstimator):
    """A network for vectors, each layer a step of ascent on the rate reduction.

    Args:
        num_layers: L.
        eps: precision of the rates; the official scripts' 0.1 is its square.
        step: eta, 0.5 in most of the official scripts, 0.1 for small problems.
        sharpness: lambda of the soft assignment.
        construction: "samples", as published, with the soft assignment and samples on the sphere;
            or "covariances", from class covariances alone, with true labels and classes
            normalised as a whole (2011.14593), which `partial_fit` needs.
        classifier: what predicts: "network" (the last layer's assignment), or, fitted to the
            features, "nearest_subspace", "knn" (5 neighbours) or "svm" (linear).
        batch_size: samples that pass through the network at once in `transform` and `predict`.

    Attributes:
        classes_: labels, `[K]`.
        operators_: `Operators` of all layers, stacked.
        monitor_: `Monitor` of the construction; not with "covariances".
        kept_: `ClassCovariances`, all that is kept of samples; with "covariances" alone.
        open_: whether `partial_fit` takes classes that were not announced.
        n_features_in_: d.
    """

    def __init__(
        self,
        num_layers: int = 50,
        eps: float = 0.1**0.5,
        step: float = 0.5,
        sharpness: float = 500.0,
        *,
        construction: Construction = "samples",
        classifier: Classifier = "network",
        batch_size: int = 1000,
    ) -> None:
        self.num_layers = num_layers
        self.eps = eps
        self.step = step
        self.sharpness = sharpness
        self.construction = construction
        self.classifier = classifier
        self.batch_size = batch_size

    def fit(self, X: Samples, y: Samples) -> ReduNet:
        """Builds the network.

        Args:
            X: samples, rows first; normalised here.
            y: class labels `[N]`, of at least two classes.

        Raises:
            InputError: unfit settings, a single class, or a sample that is zero.
        """
        self._check_settings()
        X, y = self._validated(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            got = f"one class, {self.classes_[0]!r}"
            raise checks.reject("y", got, "labels of at least two classes")
        spectra = self._spectra(X)
        if self.construction == "covariances":
            self.kept_: ClassCovariances | None = None
            self.open_ = True
            return self._add(spectra, labels)
        features, self.operators_, self.monitor_ = _construct(
            spectra, places_of(labels, len(self.classes_)), labels, self._layer, self.num_layers
        )
        if self.classifier != "network":
            self.head_ = _CLASSIFIERS[self.classifier]().fit(_flat(features), y)
        return self

    @available_if(lambda self: self.construction == "covariances")
    def partial_fit(self, X: Samples, y: Samples, classes: Samples | None = None) -> ReduNet:
        """Adds samples of new or known classes: the network is that of all samples together.

        There only with `construction="covariances"`.

        Args:
            X: samples.
            y: class labels `[N]`; new ones are added to `classes_`.
            classes: labels of all classes that may come, in the first call; none need be given.

        Raises:
            InputError: as of `fit`, and a label that is not among `classes` where they were given.
        """
        self._check_settings()
        first = not hasattr(self, "classes_")
        X, y = self._validated(X, y, reset=first)
        check_classification_targets(y)
        spectra = self._spectra(X)
        if first:
            self.classes_, self.kept_ = np.unique(y if classes is None else classes), None
            self.open_ = classes is None
        new = np.setdiff1d(y, self.classes_)
        if len(new) and not self.open_:
            accepted = f"among those of the first call, {self.classes_.tolist()}"
            raise checks.reject("y", f"labels {new.tolist()}", accepted)
        self.classes_ = np.concatenate([self.classes_, new])
        places = np.argsort(self.classes_)
        labels = places[np.searchsorted(self.classes_, y, sorter=places)]
        return self._add(spectra, labels)

    def transform(self, X: Samples) -> np.ndarray:
        """Features of samples, of the shape of what goes into the first layer."""
        return np.concatenate([np.asarray(from_spectra(part)) for part, _ in self._passed(X)])

    def predict_proba(self, X: Samples) -> np.ndarray:
        """The last layer's soft assignment, `[N, K]`; nearly hard at the default sharpness."""
        return np.concatenate([np.asarray(assigned).T for _, assigned in self._passed(X)])

    def predict(self, X: Samples) -> np.ndarray:
        """The class of each sample."""
        check_is_fitted(self)
        if self.classifier == "network":
            return self.classes_[self.predict_proba(X).argmax(1)]
        features = self.transform(X)
        return self.head_.predict(features.reshape(len(features), -1))

    def __sklearn_tags__(self) -> Any:
        """Samples are normalised, so that blobs at different distances are not told apart."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _layer(self) -> LayerConfig:
        return LayerConfig(self.eps, self.step, self.sharpness)

    def _check_settings(self) -> None:
        for name in ("num_layers", "batch_size"):
            checks.check_count(name, getattr(self, name), 1)
        for name in ("eps", "step", "sharpness"):
            checks.check_range(name, getattr(self, name), 0.0, closed=False)
        checks.check_choice("construction", self.construction, ("samples", "covariances"))
        checks.check_choice("classifier", self.classifier, ("network", *_CLASSIFIERS))
        if self.construction == "covariances" and self.classifier != "network":
            remedy = "No sample is kept that another classifier could be fitted to."
            raise checks.reject("classifier", self.classifier, "'network'", remedy)

    def _validated(self, X: Samples, y: Samples = _NO_LABELS, *, reset: bool = True) -> Any:
        return validate_data(self, X, y, reset=reset, dtype=np.float32)

    def _lifted(self, X: np.ndarray) -> jax.Array:
        return jnp.asarray(X)

    def _spectra(self, X: np.ndarray) -> Spectra:
        inputs = self._lifted(X)
        zero = np.flatnonzero(~np.asarray(inputs).reshape(len(inputs), -1).any(1))
        if len(zero):
            got = f"{len(zero)} sample(s) without a direction (the first is {zero[0]})"
            raise checks.reject("X", got, "samples that are not zero", "Leave them out.")
        return normalised(to_spectra(inputs, self._fft_norm))

    _fft_norm: FFTNorm = "backward"

    def _add(self, spectra: Spectra, labels: np.ndarray) -> ReduNet:
        K = len(self.classes_)
        found = class_covariances(spectra, membership(labels, K, spectra))
        if self.kept_ is not None:
            found = self.kept_.padded(K).merge(found)
        self.kept_ = found
        self.operators_ = _construct_from(
            found, spectra.square_weights, self._layer, self.num_layers
        )
        return self

    def _passed(self, X: Samples) -> Any:
        """What comes out of the network, and the last assignment, batch by batch."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        for start in range(0, len(X), self.batch_size):
            part = normalised(
                to_spectra(self._lifted(X[start : start + self.batch_size]), self._fft_norm)
            )
            yield _transform(self.operators_, part, self._layer)


class ShiftInvariantReduNet(ReduNet):
    """A network for signals `[N, T]` or images `[N, H, W]`, with channels or without.

    Samples are lifted to channels by random circular filters, and every layer acts alike on all
    circular shifts: features of a shifted sample are the shifted features.

    Args:
        channels: filters of the lifting, standard normal ones.
        filter_size: of a filter in each direction.
        positions: 1 for signals, 2 for images.
        seed: of the filters.
        fft_norm: see `ncjax.redunet.Spectra`.
        settings: of `ReduNet`.
    """

    def __init__(
        self,
        num_layers: int = 20,
        eps: float = 0.1**0.5,
        step: float = 0.5,
        sharpness: float = 500.0,
        *,
        channels: int = 20,
        filter_size: int = 5,
        positions: int = 2,
        seed: int = 0,
        fft_norm: FFTNorm = "backward",
        construction: Construction = "samples",
        classifier: Classifier = "network",
        batch_size: int = 100,
    ) -> None:
        super().__init__(
            num_layers,
            eps,
            step,
            sharpness,
            construction=construction,
            classifier=classifier,
            batch_size=batch_size,
        )
        self.channels = channels
        self.filter_size = filter_size
        self.positions = positions
        self.seed = seed
        self.fft_norm = fft_norm

    def _check_settings(self) -> None:
        super()._check_settings()
        for name in ("channels", "filter_size"):
            checks.check_count(name, getattr(self, name), 1)
        if self.positions not in (1, 2):
            raise checks.reject("positions", self.positions, "1 for signals or 2 for images")
        checks.check_choice("fft_norm", self.fft_norm, ("backward", "ortho"))

    @property
    def _fft_norm(self) -> FFTNorm:
        return self.fft_norm

    def _validated(self, X: Samples, y: Samples = _NO_LABELS, *, reset: bool = True) -> Any:
        settings = {"reset": reset, "dtype": np.float32, "allow_nd": True, "ensure_2d": False}
        found = validate_data(self, X, y, **settings)
        X, *labels = found if isinstance(found, tuple) else (found,)
        if X.ndim == self.positions + 1:
            X = X[..., None]
        if X.ndim != self.positions + 2:
            axes = "[N, T]" if self.positions == 1 else "[N, H, W]"
            accepted = f"of shape {axes}, or with a last axis of channels"
            raise checks.reject("X", f"shape {X.shape}", accepted)
        return (X, *labels) if labels else X

    def _lifted(self, X: np.ndarray) -> jax.Array:
        filters = random_filters(
            self.seed, self.channels, self.filter_size, X.shape[-1], self.positions
        )
        return lift(X, filters)


def places_of(labels: np.ndarray, num_classes: int) -> jax.Array:
    """Row numbers of each class's samples, filled up with N: int32 `[K, M]`."""
    counts = np.bincount(labels, minlength=num_classes)
    places = np.full((num_classes, counts.max()), len(labels), np.int32)
    for k in range(num_classes):
        places[k, : counts[k]] = np.flatnonzero(labels == k)
    return jnp.asarray(places)


def _flat(features: Spectra) -> np.ndarray:
    arrays = np.asarray(from_spectra(features))
    return arrays.reshape(len(arrays), -1)


_construct = jax.jit(construct, static_argnums=(3, 4))
_construct_from = jax.jit(construct_from_covariances, static_argnums=(2, 3))
_transform = jax.jit(transform, static_argnums=2)
