"""Where data come from: scikit-learn's digits, and `.npz` files of one's own."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ncjax import checks


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set in memory.

    Attributes:
        name: what it was loaded by.
        num_classes: K.
        images: training inputs, float32 `[N, ...]`, scaled to about unit range.
        labels: int32 `[N]`, in 0 .. K-1.
        test_images: float32 `[M, ...]`; M may be 0.
        test_labels: int32 `[M]`.
    """

    name: str
    num_classes: int
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def fingerprint(self) -> str:
        """A hash of all arrays: a run is continued on the data it began with, or not at all."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.test_images, self.test_labels):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def load(name: str) -> Dataset:
    """Loads a data set.

    Args:
        name: "digits" (scikit-learn's 1,797 real 8x8 images of handwritten digits, stratified into
            1,437 for training and 360 for testing), or the path of an `.npz` file with arrays
            `images` `[N, ...]`, `labels` `[N]` and, optionally, `test_images`, `test_labels`.

    Returns:
        `Dataset`.

    Raises:
        InputError: unknown name, no such file, arrays missing or unfit.

    Examples:
        >>> digits = load("digits")
        >>> digits.images.shape, digits.num_classes
        ((1437, 8, 8), 10)
    """
    if name == "digits":
        return _digits()
    if not name.endswith(".npz"):
        raise checks.reject("dataset", repr(name), "'digits' or the path of an .npz file")
    arrays = read_npz(Path(name), ("images", "labels"), ("test_images", "test_labels"))
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim < 2 or images.size == 0:
        raise checks.reject("images", f"shape {images.shape}", "of shape [N, ...], not empty")
    num_classes = count_classes(labels)
    test_images = arrays.get("test_images", images[:0])
    test_labels = arrays.get("test_labels", labels[:0])
    for prefix, x, y in [("", images, labels), ("test_", test_images, test_labels)]:
        checks.check_shape(f"{prefix}images", x, (None, *images.shape[1:]), "[N, ...]")
        checks.check_shape(f"{prefix}labels", y, (len(x),), "[N]")
        checks.check_labels(f"{prefix}labels", y, num_classes)
        checks.check_finite(f"{prefix}images", x)
    counts = np.bincount(labels, minlength=num_classes)
    checks.check_all_classes_present("labels", counts)
    return Dataset(
        name=name,
        num_classes=num_classes,
        images=np.asarray(images, np.float32),
        labels=np.asarray(labels, np.int32),
        test_images=np.asarray(test_images, np.float32),
        test_labels=np.asarray(test_labels, np.int32),
    )


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
    return Dataset("digits", 10, images[train], labels[train], images[test], labels[test])
