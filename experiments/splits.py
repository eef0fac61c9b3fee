"""Data, and the classical classifiers that every ReduNet is compared with.

Whatever is tuned, here or of a ReduNet, is tuned on validation samples alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from sklearn.svm import SVC, LinearSVC

from experiments.tables import kept
from ncjax import data, progress
from ncjax.redunet import NearestSubspace


@dataclasses.dataclass(frozen=True)
class Split:
    """Samples to fit, to choose settings with, and to report on.

    Attributes:
        train: samples and labels.
        validation: the same, of other samples.
        test: the same.
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def map(self, function: Any) -> Split:
        """The same labels with other samples."""
        return Split(*((function(x), y) for x, y in (self.train, self.validation, self.test)))


def split(name: str, seed: int, per_class: int, tested: int) -> Split:
    """Draws a split.

    Args:
        name: "gaussians" (three classes on the sphere in three dimensions), "iris", "signals" (a
            sine and its sign, of random phase, with noise of deviation 0.1, at 150 positions), or
            a name of `ncjax.data.load`; images between 0 and 1.
        seed: of the draw.
        per_class: training samples of each class; half as many are for validation.
        tested: test samples, at most; of the data's own test set where that is large.
    """
    rng = np.random.default_rng(seed)
    x, y, x_test, y_test = _pool(name, rng)
    order = rng.permutation(len(y))
    rank = np.empty(len(y), int)
    for k in np.unique(y):
        rows = order[y[order] == k]
        rank[rows] = np.arange(len(rows))
    held = per_class + max(1, per_class // 2)
    train, validation = rank < per_class, (rank >= per_class) & (rank < held)
    if not len(y_test):
        x_test, y_test = x[rank >= held], y[rank >= held]
    chosen = rng.permutation(len(y_test))[:tested]
    return Split(
        (x[train], y[train]), (x[validation], y[validation]), (x_test[chosen], y_test[chosen])
    )


def on_all(
    run: Path, names: Iterable[str], seeds: int, compared: Callable[[str, int], pd.DataFrame]
) -> pd.DataFrame:
    """One table of all splits; what a killed run has finished is not done again.

    Args:
        run: folder; a CSV file for each split goes into its "splits".
        names: of data sets.
        seeds: splits of each.
        compared: the table of a data set and a seed.
    """
    cases = [(name, seed) for name in names for seed in range(seeds)]
    tables = [
        kept(run / "splits" / f"{name}-{seed}.csv", lambda pair=(name, seed): compared(*pair))
        for name, seed in progress.bar(cases, desc="splits")
    ]
    return pd.concat(tables, ignore_index=True)


def _pool(name: str, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Samples and labels, and those of a test set of its own, which may be empty."""
    if name == "signals":
        return *_signals(rng), np.empty((0, 150), np.float32), np.empty(0, int)
    if name == "gaussians":
        means = np.array([[1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82]])  # 60 degrees apart
        y = np.repeat(np.arange(3), 1500)
        x = means[y] + 0.1 * rng.normal(size=(len(y), 3))
    elif name == "iris":
        x, y = load_iris(return_X_y=True)
    else:
        found = data.load(name)
        parts = [(found.images, found.labels), (found.test_images, found.test_labels)]
        (x, y), (x_test, y_test) = ((_scaled(a), np.asarray(b)) for a, b in parts)
        if name != "digits":
            return x, y, x_test, y_test
        x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    return x.astype(np.float32), y, x[:0], y[:0]


def _signals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The official code's sinusoids of type 7, but for the phases: whole periods of a circle."""
    y = np.arange(2400) % 2
    turns = np.arange(150) / 150 * 3 + rng.random((len(y), 1))
    waves = np.sin(2 * np.pi * turns)
    waves = np.where(y[:, None] == 1, np.sign(waves), waves)
    return (waves + 0.1 * rng.normal(size=waves.shape)).astype(np.float32), y


def _scaled(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    divisor = 255 if images.dtype == np.uint8 else 1
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    return (images / divisor).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    """Samples as vectors of unit length."""
    return normalize(x.reshape(len(x), -1))


def classical(
    features: Split, names: Sequence[str] = ("subspace", "kNN", "SVM", "RBF SVM")
) -> dict:
    """Validation and test accuracy of classifiers whose settings validation chose.

    Args:
        features: of unit length.
        names: see `candidates`.
    """
    found = {}
    for name in names:
        fitted = (one.fit(*features.train) for one in candidates(name))
        scored = ((one.score(*features.validation), one) for one in fitted)
        score, one = max(scored, key=lambda pair: pair[0])
        found[name] = score, one.score(*features.test)
    return found


def candidates(name: str) -> Iterable[Any]:
    """Classifiers of a kind: "subspace" (nearest), "kNN", "SVM" (linear) or "RBF SVM"."""
    if name == "subspace":
        return (NearestSubspace(dim) for dim in (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 100))
    if name == "kNN":
        return (KNeighborsClassifier(k) for k in (1, 3, 5, 9))
    if name == "SVM":
        return (LinearSVC(C=C, random_state=0, max_iter=5000) for C in (0.1, 1.0, 10.0))
    return (SVC(C=C, gamma=g) for C in (1.0, 10.0, 100.0) for g in (0.3, 1.0, 3.0, 10.0))


def shifted(x: np.ndarray, seed: int, axes: tuple[int, ...] | None = None) -> np.ndarray:
    """Every sample moved circularly by random amounts along axes of the array, all if None."""
    rng = np.random.default_rng(seed)
    axes = tuple(range(1, x.ndim)) if axes is None else axes
    moves = [rng.integers(0, x.shape[axis], len(x)) for axis in axes]
    along = tuple(axis - 1 for axis in axes)
    return np.stack([np.roll(one, move, along) for one, *move in zip(x, *moves, strict=True)])
