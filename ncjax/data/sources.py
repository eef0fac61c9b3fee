"""Where data come from: scikit-learn's digits, tensorflow-datasets, `.npz` files of one's own."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ncjax import checks
from ncjax.data import prepared, wordnet
from ncjax.data.corruptions import Corruption
from ncjax.types import AnyArray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set in memory.

    Attributes:
        name: what it was loaded by.
        num_classes: K.
        images: of the training set, uint8 or float32 `[N, ...]`; `inputs` of them are trained on.
            Or texts, word numbers, int32 `[N, L]`, 0 for padding.
        labels: int32 `[N]`, in 0 .. K-1, as they are given.
        clean_labels: the same before they were corrupted.
        test_images: like `images`, `[M, ...]`; M may be 0.
        test_labels: int32 `[M]`.
        validation_images: like `images`, set aside by a corruption; None if none are.
        validation_labels: their true labels.
        unlabelled: like `images`, left out by a corruption that keeps them; None if none are.
        kept: of each training image its number in the set as it was loaded, int `[N]`; None if all
            are there.
        mean: of each channel of uint8 images over 255, over the whole training set.
        deviation: their standard deviation.
    """

    name: str
    num_classes: int
    images: np.ndarray
    labels: np.ndarray
    clean_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    unlabelled: np.ndarray | None = None
    kept: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of all arrays: a run is continued on the data it began with, or not at all."""
        digest = hashlib.sha256()
        arrays = [self.images, self.labels, self.clean_labels, self.test_images, self.test_labels]
        if self.validation_images is not None:
            arrays += [self.validation_images, self.validation_labels]
        if self.unlabelled is not None:
            arrays.append(self.unlabelled)
        for array in arrays:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def inputs(self, images: AnyArray) -> AnyArray:
        """What a network sees: uint8 images standardised by channel, others as they are.

        Args:
            images: uint8 or float32 `[..., H, W, C]`, of NumPy or JAX, traced or not.

        Returns:
            float32, of the same shape.
        """
        if images.dtype != np.uint8:
            return images
        return self.standardised(self.unit(images))

    def standardised(self, images: AnyArray) -> AnyArray:
        """What a network sees of images between 0 and 1, as attacks change them.

        Args:
            images: float32 `[..., H, W, C]`.
        """
        if self.images.dtype != np.uint8:
            return images
        mean, deviation = (np.asarray(x, np.float32) for x in (self.mean, self.deviation))
        over = (None,) * (images.ndim - 1)
        return (images - mean[over]) / deviation[over]

    @staticmethod
    def unit(images: AnyArray) -> AnyArray:
        """uint8 images as float32 between 0 and 1; others as they are."""
        if images.dtype != np.uint8:
            return images
        return images.astype(np.float32) / np.float32(255)

    @property
    def noise_rate(self) -> float:
        """The share of training labels that are not the true ones."""
        return float(np.mean(self.labels != self.clean_labels))

    @property
    def numbers(self) -> np.ndarray:
        """Of each training image its number in the set as it was loaded, int `[N]`."""
        return np.arange(len(self.labels)) if self.kept is None else self.kept

    def corrupt(self, corruption: Corruption) -> Dataset:
        """The data set with its training set corrupted.

        Args:
            corruption: what is done.

        Raises:
            InputError: the training set is corrupted already.
        """
        if self.labels is not self.clean_labels:
            raise checks.reject("dataset", "one that is corrupted", "clean", "Load it again.")
        rows = corruption.kept(self.labels, self.num_classes)
        labels = corruption.corrupted(self.labels, self.num_classes, self.name)
        images = self.images if len(rows) == len(labels) else self.images[rows]
        clean = self.labels[rows]
        labels = clean if corruption.labels == "clean" else labels[rows]
        found = dataclasses.replace(
            self, images=images, labels=labels, clean_labels=clean, kept=rows
        )
        held, parts = corruption.held_out(self.labels, self.num_classes), {}
        if corruption.validation:
            parts = {"validation_images": self.images[held], "validation_labels": self.labels[held]}
        if corruption.unlabelled:
            rest = np.setdiff1d(np.arange(len(self.labels)), np.concatenate([rows, held]))
            parts["unlabelled"] = self.images[rest]
        return dataclasses.replace(found, **parts)


def load(name: str, data_dir: Path | str | None = None) -> Dataset:
    """Loads a data set, preparing it first if it is of TFDS and not yet prepared.

    Args:
        name: "digits" (scikit-learn's 1,797 real 8x8 images of handwritten digits, stratified into
            1,437 for training and 360 for testing), "wordnet" (definitions as word numbers, int32
            `[N, 16]`, of 45 classes; `ncjax.data.wordnet`), the path of an `.npz` file with arrays
            `images` `[N, ...]`, `labels` `[N]` and, optionally, `test_images`, `test_labels` (of
            texts `texts` and `test_texts`, word numbers `[N, L]`, 0 for padding), or a name of
            tensorflow-datasets, as "fashion_mnist" (see `prepare`).
        data_dir: where prepared data are; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
        `Dataset`.

    Raises:
        InputError: unknown name, no such file, arrays missing or unfit, or data that can't be
            prepared.

    Examples:
        >>> digits = load("digits")
        >>> digits.images.shape, digits.num_classes
        ((1437, 8, 8), 10)
    """
    if name == "digits":
        return _digits()
    if name == "wordnet":
        return _wordnet()
    if not name.endswith(".npz"):
        prepared.prepare(name, data_dir)
        arrays, info = prepared.read(name, data_dir)
        scales = {which: tuple(info[which]) for which in ("mean", "deviation")}
        labels = arrays["labels"]
        return Dataset(name, info["num_classes"], clean_labels=labels, **arrays, **scales)
    return _of_npz(name)


def _of_npz(name: str) -> Dataset:
    kind = _kind(Path(name))
    arrays = read_npz(Path(name), (kind, "labels"), (f"test_{kind}", "test_labels"))
    inputs, labels = arrays[kind], arrays["labels"]
    if inputs.ndim < 2 or inputs.size == 0:
        raise checks.reject(kind, f"shape {inputs.shape}", "of shape [N, ...], not empty")
    num_classes = count_classes(labels)
    test_inputs = arrays.get(f"test_{kind}", inputs[:0])
    test_labels = arrays.get("test_labels", labels[:0])
    for prefix, x, y in [("", inputs, labels), ("test_", test_inputs, test_labels)]:
        checks.check_shape(f"{prefix}{kind}", x, (None, *inputs.shape[1:]), "[N, ...]")
        checks.check_shape(f"{prefix}labels", y, (len(x),), "[N]")
        checks.check_labels(f"{prefix}labels", y, num_classes)
        checks.check_finite(f"{prefix}{kind}", x)
        if kind == "texts" and not (np.issubdtype(x.dtype, np.integer) and x.min(initial=0) >= 0):
            got = f"{x.dtype}, from {x.min(initial=0)}"
            raise checks.reject(f"{prefix}texts", got, "word numbers, integers from 0 on")
    checks.check_all_classes_present("labels", np.bincount(labels, minlength=num_classes))
    labels, dtype = np.asarray(labels, np.int32), np.int32 if kind == "texts" else np.float32
    return Dataset(
        name=name,
        num_classes=num_classes,
        images=np.asarray(inputs, dtype),
        labels=labels,
        clean_labels=labels,
        test_images=np.asarray(test_inputs, dtype),
        test_labels=np.asarray(test_labels, np.int32),
    )


def _kind(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return "images"
    with np.load(path) as file:
        return "texts" if "texts" in file else "images"


def count_classes(labels: np.ndarray) -> int:
    """One more than the largest label.

    Raises:
        InputError: labels that are not integers, or of a single class.
    """
    checks.check_labels("labels", labels, np.iinfo(np.int32).max)
    num_classes = int(np.max(labels, initial=0)) + 1
    if num_classes < 2:
        raise checks.reject("labels", "a single class", "of at least two classes")
    return num_classes


def read_npz(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Named arrays from an `.npz` file.

    Args:
        path: the file.
        required: arrays that must be there.
        optional: arrays that may be.

    Returns:
        The arrays found among those named.

    Raises:
        InputError: no such file, not an `.npz` file, or an array that is missing or unreadable.
    """
    accepted = f"an .npz file with arrays {', '.join(required)}" + (
        f" (and optionally {', '.join(optional)})" if optional else ""
    )
    remedy = f"Write one with `numpy.savez(path, {', '.join(f'{r}={r}' for r in required)})`."
    try:
        with np.load(path) as file:
            missing = [name for name in required if name not in file]
            if missing:
                got = f"{path}, which has {', '.join(file.files) or 'no arrays'}"
                raise checks.reject("file", got, accepted, remedy)
            return {name: file[name] for name in (*required, *optional) if name in file}
    except FileNotFoundError as error:
        raise checks.reject("file", f"{path}, which does not exist", accepted, remedy) from error
    except (zipfile.BadZipFile, ValueError, OSError, AttributeError, TypeError) as error:
        if isinstance(error, checks.InputError):
            raise
        got = f"{path}, which can't be read ({error})"
        raise checks.reject("file", got, accepted, remedy) from error


def _digits() -> Dataset:
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    labels = bunch.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    given = labels[train]
    return Dataset("digits", 10, images[train], given, given, images[test], labels[test])


def _wordnet() -> Dataset:
    found = wordnet.glosses()
    train, test = wordnet.split()
    tokens = wordnet.known().encode(found.definitions, wordnet.WORDS)
    classes, count = found.classes, len(wordnet.CLASSES)
    given = classes[train]
    return Dataset("wordnet", count, tokens[train], given, given, tokens[test], classes[test])
