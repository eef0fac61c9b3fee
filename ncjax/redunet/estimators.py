"""ReduNet as an estimator: a network built forward from data, in scikit-learn's manner."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
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

from ncjax import checks, parallel
from ncjax.redunet import persistence
from ncjax.redunet.construction import (
    Ending,
    Network,
    build,
    build_streamed,
    check_fits,
    check_rates,
)
from ncjax.redunet.groups import places_of
from ncjax.redunet.incremental import (
    ClassCovariances,
    class_covariances,
    construct_from_covariances,
)
from ncjax.redunet.layers import LayerConfig, Monitor, normalised, transform
from ncjax.redunet.module import ReduNetModule, parameters_of
from ncjax.redunet.operators import Operators
from ncjax.redunet.spectra import FFTNorm, Spectra, from_spectra, to_spectra
from ncjax.redunet.subspaces import NearestSubspace
from ncjax.types import AnyArray, Samples

Construction = Literal["samples", "covariances"]
Classifier = Literal["network", "nearest_subspace", "knn", "svm"]
NO_LABELS = "no_validation"
"""What scikit-learn takes for no labels."""
_CLASSIFIERS = {
    "nearest_subspace": NearestSubspace,
    "knn": KNeighborsClassifier,
    "svm": functools.partial(LinearSVC, random_state=0),
}


class ReduNet(ClassifierMixin, TransformerMixin, BaseEstimator):
    """A network for vectors, each layer a step of ascent on the rate reduction.

    In float32, or in float64 under `jax.enable_x64`.

    Args:
        num_layers: L.
        eps: precision of the rates; the official scripts' 0.1 is its square.
        step: eta, 0.5 in most of the official scripts, 0.1 for small problems. Above 2 N eps^2/d
            rounding outside a class's span grows from layer to layer.
        sharpness: lambda of the soft assignment.
        construction: "samples", as published, with the soft assignment and samples on the sphere;
            or "covariances", from class covariances alone, with true labels and classes
            normalised as a whole (2011.14593), which `partial_fit` needs.
        classifier: what predicts: "network" (the last layer's assignment), or, fitted to the
            features, "nearest_subspace", "knn" (5 neighbours) or "svm" (linear).
        plateau: construction ends with the layer that makes Delta R grow by less than this share
            of itself, or fall (`monitor_.falls` says so); None for all layers. Not with
            "covariances".
        streamed: whether to build from batches of samples, features between layers being in a
            temporary file, where a device does not hold them all. Not with "covariances".
        batch_size: samples that pass through the network at once in `transform`, `predict`, and
            in `fit` where `streamed`.
        verbose: a progress bar over layers. Not with "covariances".

    Attributes:
        classes_: labels, `[K]`.
        operators_: `Operators` of all layers, stacked.
        monitor_: `Monitor` of the construction: rates by layer, and where Delta R falls.
        head_: the classifier, but for "network".
        kept_: `ClassCovariances`, all that is kept of samples; None but with "covariances".
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
        plateau: float | None = None,
        streamed: bool = False,
        batch_size: int = 1000,
        verbose: bool = False,
    ) -> None:
        self.num_layers = num_layers
        self.eps = eps
        self.step = step
        self.sharpness = sharpness
        self.construction = construction
        self.classifier = classifier
        self.plateau = plateau
        self.streamed = streamed
        self.batch_size = batch_size
        self.verbose = verbose

    def fit(self, X: Samples, y: Samples) -> ReduNet:
        """Builds the network.

        Args:
            X: samples, rows first; normalised here.
            y: class labels `[N]`, of at least two classes.

        Raises:
            InputError: unfit settings, a single class, samples that are all the same, one that is
                zero, more than the device's memory, or rates that are not finite.
        """
        self._check_settings()
        X, y = self._validated(X, y)
        check_classification_targets(y)
        if len(X) > 1 and not np.any(X[:1] != X):
            raise checks.reject("X", "the same sample throughout", "samples that differ")
        names, labels = np.unique(y, return_inverse=True)
        if len(names) < 2:
            got = f"one class, {names[0]!r}"
            raise checks.reject("y", got, "labels of at least two classes")
        if self.construction == "covariances":
            self.classes_, self.open_, self.kept_ = names, True, None
            self._add(self._spectra(X), labels)._constructed()
            return self
        network = self._built(X, labels)
        self.classes_, self.kept_ = names, None
        self._network = Network(jax.tree.map(jnp.asarray, network.operators), network.monitor)
        if self.classifier != "network":
            features = self.transform(X) if network.features is None else network.features
            self._fit_head(features, labels)
        return self

    @available_if(lambda self: self.construction == "covariances")
    def partial_fit(self, X: Samples, y: Samples, classes: Samples | None = None) -> ReduNet:
        """Adds samples of new or known classes: the network is that of all samples together.

        There only with `construction="covariances"`. The network is built when it is first used. It
        compiles anew for every number of classes: to announce all in the first call spares that.

        Args:
            X: samples.
            y: class labels `[N]`; new ones are added to `classes_`.
            classes: labels of all classes that may come, in the first call; none need be given.
                Those without a sample so far are never predicted.

        Raises:
            InputError: as of `fit`, and a label that is not among `classes` where they were given.
        """
        self._check_settings()
        first = getattr(self, "kept_", None) is None
        X, y = self._validated(X, y, reset=first)
        check_classification_targets(y)
        if first:
            known, is_open = np.unique(y if classes is None else classes), classes is None
        else:
            known, is_open = self.classes_, self.open_
        new = np.setdiff1d(y, known)
        if len(new) and not is_open:
            accepted = f"among those of the first call, {known.tolist()}"
            raise checks.reject("y", f"labels {new.tolist()}", accepted)
        spectra = self._spectra(X)
        everyone = np.union1d(known, new)
        if not first and len(new):
            self.kept_ = self.kept_.among(np.searchsorted(everyone, known), len(everyone))
        self.classes_, self.open_ = everyone, is_open
        if first:
            self.kept_ = None
        return self._add(spectra, np.searchsorted(everyone, y))

    def transform(self, X: Samples) -> np.ndarray:
        """Features of samples, of the shape of what goes into the first layer."""
        return np.concatenate([np.asarray(from_spectra(part)) for part, _, _ in self._passed(X)])

    def predict_proba(self, X: Samples) -> np.ndarray:
        """The last layer's soft assignment, `[N, K]`; nearly hard at the default sharpness."""
        return np.concatenate([_softmax(scores) for _, scores, _ in self._passed(X)])

    def predict(self, X: Samples) -> np.ndarray:
        """The class of each sample."""
        check_is_fitted(self, "_network")
        if self.classifier == "network":
            return self.classes_[self.predict_proba(X).argmax(1)]
        features = self.transform(X)
        return self.classes_[self.head_.predict(features.reshape(len(features), -1))]

    def staged_predict(self, X: Samples) -> np.ndarray:
        """The classes that each layer assigns, `[L, N]`; those of `predict` are the last."""
        places = np.concatenate([np.asarray(part) for _, _, part in self._passed(X)], axis=1)
        return self.classes_[places]

    def to_flax(self) -> tuple[ReduNetModule, dict]:
        """The network as a Flax module and its variables, for back-propagation.

        Its input is what goes into the first layer: of a `ShiftInvariantReduNet`, what `lift` of
        its filters gives.
        """
        check_is_fitted(self, "_network")
        shares = tuple(np.asarray(self.operators_.shares[0]).tolist())
        L = len(self.operators_.shares)
        module = ReduNetModule(L, shares, self.step, self.sharpness, self._fft_norm)
        return module, {"params": parameters_of(self.operators_)}

    def save(self, folder: Path | str) -> None:
        """Writes the network to a new folder: arrays by Orbax, settings as JSON.

        Raises:
            InputError: the folder is there already, or can't be written.
        """
        check_is_fitted(self, "_network")
        parts = {name: getattr(self, name, None) for name in _ARRAYS}
        arrays = {
            name: {key: value for key, value in vars(part).items() if hasattr(value, "shape")}
            for name, part in parts.items()
            if part is not None
        }
        if self.classifier != "network":
            arrays["samples_"] = self.samples_
        settings = {
            "parameters": self.get_params(),
            "factored": self.operators_.factored,
            "classes": self.classes_.tolist(),
            "dtype": str(self.classes_.dtype),
            "plain": {name: getattr(self, name) for name in _PLAIN if hasattr(self, name)},
        }
        persistence.save(folder, type(self).__name__, settings, arrays)

    @classmethod
    def load(cls, folder: Path | str) -> ReduNet:
        """A network that was saved by an estimator of this class.

        Raises:
            InputError: nothing was saved there, or another kind of network.
        """
        kind, settings, arrays = persistence.load(folder)
        if kind != cls.__name__:
            raise checks.reject("folder", f"a saved {kind}", f"a saved {cls.__name__}")
        net = cls(**settings["parameters"])
        for name, value in settings["plain"].items():
            is_array = name == "feature_names_in_"
            setattr(net, name, np.array(value, object) if is_array else value)
        net.classes_ = np.array(settings["classes"], settings["dtype"])
        operators = Operators(**arrays["operators_"], factored=settings["factored"])
        monitor = Monitor(**{"agreement": None} | arrays["monitor_"])
        net._network = Network(jax.tree.map(jnp.asarray, operators), monitor)
        kept = ClassCovariances(**arrays["kept_"]) if "kept_" in arrays else None
        net.kept_ = jax.tree.map(jnp.asarray, kept)
        if "samples_" in arrays:
            net._fit_head(**arrays["samples_"])
        return net

    def __sklearn_tags__(self) -> Any:
        """Samples are normalised, so that blobs at different distances are not told apart."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def operators_(self) -> Operators:
        """Of all layers, stacked."""
        return self._constructed().operators

    @property
    def monitor_(self) -> Monitor:
        """What was seen while the network was built."""
        return self._constructed().monitor

    @property
    def _dtype(self) -> np.dtype:
        return jnp.result_type(float)

    @property
    def _layer(self) -> LayerConfig:
        return LayerConfig(float(self.eps), float(self.step), float(self.sharpness))

    def _check_settings(self) -> None:
        for name in ("num_layers", "batch_size"):
            checks.check_count(name, getattr(self, name), 1)
        for name in ("eps", "step", "sharpness"):
            checks.check_range(name, getattr(self, name), 0.0, closed=False)
        if self.plateau is not None:
            checks.check_range("plateau", self.plateau, 0.0)
        checks.check_choice("construction", self.construction, ("samples", "covariances"))
        checks.check_choice("classifier", self.classifier, ("network", *_CLASSIFIERS))
        if self.construction == "covariances" and self.classifier != "network":
            remedy = "No sample is kept that another classifier could be fitted to."
            raise checks.reject("classifier", self.classifier, "'network'", remedy)

    def _validated(self, X: Samples, y: Samples = NO_LABELS, *, reset: bool = True) -> Any:
        return validate_data(self, X, y, reset=reset, dtype=self._dtype)

    def _blank(self) -> np.ndarray:
        return np.zeros((1, self.n_features_in_), self._dtype)

    def _lifted(self, X: AnyArray) -> jax.Array:
        return jnp.asarray(X)

    def _built(self, X: np.ndarray, labels: np.ndarray) -> Network:
        ending = Ending(int(self.num_layers), self.plateau, self.verbose)
        batch_size = self.batch_size if self.streamed else None
        shapes = jax.eval_shape(lambda x: to_spectra(self._lifted(x), self._fft_norm), X)
        check_fits(shapes, np.bincount(labels), ending, batch_size=batch_size)
        if not self.streamed:
            return build(self._spectra(X), labels, self._layer, ending)

        def batch(rows: np.ndarray) -> Spectra:
            there = rows < len(X)
            rows = np.where(there, rows, 0)
            spectra = self._spectra(X[rows], rows)
            mask = jnp.asarray(there, spectra.values.dtype)
            return spectra.replace(spectra.values * mask[None, :, None])

        return build_streamed(batch, labels, self.batch_size, self._layer, ending)

    def _fit_head(self, features: np.ndarray | Spectra, labels: np.ndarray) -> None:
        if isinstance(features, Spectra):
            features = np.asarray(from_spectra(features))
        features = features.reshape(len(features), -1)
        self.samples_ = {"features": features, "labels": np.asarray(labels)}
        self.head_ = _CLASSIFIERS[self.classifier]().fit(features, labels)

    def _spectra(self, X: np.ndarray, rows: np.ndarray | None = None) -> Spectra:
        """Of samples at unit length; `rows` are their numbers for the error."""
        sizes = np.abs(X).max(axis=tuple(range(1, X.ndim)), keepdims=True)
        # Lifting is homogeneous: squares neither overflow nor vanish at this scale.
        inputs = self._lifted(X / np.where(sizes > 0, sizes, 1))
        zero = np.flatnonzero(~np.asarray(inputs.reshape(len(inputs), -1).any(1)))
        if len(zero):
            first = zero[0] if rows is None else rows[zero[0]]
            got = f"{len(zero)} sample(s) without a direction (the first is {first})"
            raise checks.reject("X", got, "samples that are not zero", "Leave them out.")
        return normalised(to_spectra(inputs, self._fft_norm))

    _fft_norm: FFTNorm = "backward"

    def _add(self, spectra: Spectra, labels: np.ndarray) -> ReduNet:
        counts = np.bincount(labels, minlength=len(self.classes_))
        ending = Ending(int(self.num_layers))
        check_fits(spectra, counts, ending, batch_size=spectra.values.shape[1])
        found = class_covariances(spectra, places_of(labels, len(counts)))
        self.kept_ = found if self.kept_ is None else self.kept_.merge(found)
        self._network = None
        return self

    def _constructed(self) -> Network:
        """The network; from covariances it is built when it is asked for."""
        check_is_fitted(self, "_network")
        if self._network is None:
            weights = to_spectra(self._lifted(self._blank()), self._fft_norm).square_weights
            operators, monitor = parallel.on_one_blas_thread(_construct_from)(
                self.kept_, weights, self._layer, int(self.num_layers)
            )
            check_rates(monitor)
            self._network = Network(operators, monitor)
        return self._network

    def _passed(self, X: Samples) -> Iterator[tuple[Spectra, jax.Array, jax.Array]]:
        """What `transform` of `ncjax.redunet.layers` gives, batch by batch."""
        check_is_fitted(self, "_network")
        X = self._validated(X, reset=False)
        for start in range(0, len(X), self.batch_size):
            part = X[start : start + self.batch_size]
            # Few sizes are compiled: powers of two, the last sample filling up.
            size = min(self.batch_size, 1 << (len(part) - 1).bit_length())
            rows = np.minimum(np.arange(size), len(part) - 1)
            after, scores, assigned = _transform(
                self.operators_, self._spectra(part[rows], start + rows), self._layer
            )
            count = len(part)
            yield after.replace(after.values[:, :count]), scores[:, :count], assigned[:, :count]


def _softmax(scores: jax.Array) -> np.ndarray:
    return np.asarray(jax.nn.softmax(scores, axis=0)).T


_ARRAYS = ("operators_", "monitor_", "kept_")
_PLAIN = ("n_features_in_", "feature_names_in_", "input_shape_", "open_")
_construct_from = jax.jit(construct_from_covariances, static_argnums=3)
_transform = jax.jit(transform)
