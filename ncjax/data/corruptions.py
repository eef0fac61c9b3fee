"""What is done to a training set on purpose: label noise, random labels, long tails, subsets.

Every draw belongs to an example by its number in the original set and depends on nothing else, so
that noise and subsets come out the same in whatever order or combination they are asked for.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from ncjax import checks

Labels = Literal["clean", "symmetric", "symmetric_others", "asymmetric", "random"]
LABELS: tuple[str, ...] = ("clean", "symmetric", "symmetric_others", "asymmetric", "random")
CIFAR10_CONFUSIONS = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""Truck to car, bird to plane, deer to horse, cat and dog swapped (1609.03683, section 5)."""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """What is done to the training set; nothing by default. Test sets are left alone.

    Attributes:
        labels: "symmetric" redraws a share `noise` of the labels from all classes, so that 1 / K of
            those keep theirs; "symmetric_others" from the other classes; "asymmetric" turns class
            k into k + 1 (the usual confusions if the data set is "cifar10"); "random" permutes all
            labels, which keeps the classes as large as they were.
        noise: the share, in [0, 1]; of no meaning for "clean" and "random".
        imbalance: of an exponential long tail, largest class over smallest: class k keeps
            imbalance^(-k / (K - 1)) of its examples.
        per_class: at most so many examples of each class, before the long tail; all if None.
        share: of the examples of each class that stay, likewise; classes keep their proportions.
        validation: so many examples of each class are taken out first, with their true labels.
        unlabelled: keep the images of what is left out then, without labels.
        seed: of all of it.
    """

    labels: Labels = "clean"
    noise: float = 0.0
    imbalance: float = 1.0
    per_class: int | None = None
    share: float = 1.0
    validation: int = 0
    unlabelled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        checks.check_choice("labels", self.labels, LABELS)
        checks.check_range("noise", self.noise, 0.0)
        if self.noise > 1:
            raise checks.reject("noise", self.noise, "a share between 0 and 1")
        checks.check_range("imbalance", self.imbalance, 1.0)
        if self.per_class is not None:
            checks.check_count("per_class", self.per_class, 1)
        checks.check_range("share", self.share, 0.0, closed=False)
        if self.share > 1:
            raise checks.reject("share", self.share, "above 0 and at most 1")
        for name in ("validation", "seed"):
            checks.check_count(name, getattr(self, name), 0)

    def corrupted(self, labels: np.ndarray, num_classes: int, dataset: str = "") -> np.ndarray:
        """The labels `[N]` that are given in place of the true ones.

        Args:
            labels: true labels, int `[N]`.
            num_classes: K.
            dataset: its name: "cifar10" has confusions of its own.
        """
        rng = np.random.default_rng([self.seed, 0])
        if self.labels == "random":
            return labels[rng.permutation(len(labels))]
        chosen = rng.random(len(labels)) < self.noise
        drawn = rng.integers(0, num_classes, len(labels))
        others = (labels + rng.integers(1, num_classes, len(labels))) % num_classes
        confused = (np.arange(num_classes) + 1) % num_classes
        if dataset == "cifar10":
            confused = np.array([CIFAR10_CONFUSIONS.get(k, k) for k in range(10)])
        new = {
            "clean": labels,
            "symmetric": drawn,
            "symmetric_others": others,
            "asymmetric": confused[labels],
        }[self.labels]
        return np.where(chosen, new, labels).astype(labels.dtype)

    def kept(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """The rows that stay, in their order, chosen by true class.

        Args:
            labels: true labels, int `[N]`.
            num_classes: K.
        """
        stays = np.ones(len(labels), bool)
        stays[self.held_out(labels, num_classes)] = False
        if self.per_class is None and self.imbalance == self.share == 1:
            return np.flatnonzero(stays)
        order = np.argsort(np.random.default_rng([self.seed, 1]).permutation(len(labels)))
        rows = []
        for k, members in enumerate(_by_class(order, labels, num_classes)):
            available = members[stays[members]]
            size = min(len(available), self.per_class or len(available))
            size = max(1, round(size * self.share * self.imbalance ** (-k / (num_classes - 1))))
            rows.append(available[:size])
        return np.sort(np.concatenate(rows))

    def held_out(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """The rows that validation takes, in their order.

        Args:
            labels: true labels, int `[N]`.
            num_classes: K.

        Raises:
            InputError: a class would be left without examples.
        """
        order = np.random.default_rng([self.seed, 2]).permutation(len(labels))
        members = _by_class(order, labels, num_classes)
        least = min(map(len, members))
        if self.validation >= least:
            accepted = f"less than the {least} examples of the smallest class"
            raise checks.reject("validation", self.validation, accepted)
        return np.sort(np.concatenate([rows[: self.validation] for rows in members]))


def _by_class(order: np.ndarray, labels: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """The rows of each class, in the given order: one sort, however many classes there are."""
    rows = order[np.argsort(labels[order], kind="stable")]
    return np.split(rows, np.cumsum(np.bincount(labels, minlength=num_classes))[:-1])
