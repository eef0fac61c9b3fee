"""TFDS's own builders of MNIST and CIFAR, able to write their files without TensorFlow.

Names, versions, features, checksums and order of the records are those of tensorflow-datasets; only
the steps for which it calls TensorFlow are replaced: unpacking, and encoding images. What they
write is read by any `tfds.data_source`.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from os import PathLike
from typing import Any
from urllib.parse import urljoin

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import cifar, mnist

Example = dict[str, Any]


class _Idx:
    """The MNIST family: gzipped idx files."""

    @classmethod
    def urls(cls) -> dict[str, str]:
        """Of the files, by what they hold."""
        kinds = {"train": "train", "test": "t10k"}
        files = {"images": "images-idx3-ubyte.gz", "labels": "labels-idx1-ubyte.gz"}
        return {
            f"{split}_{what}": urljoin(cls.URL, f"{prefix}-{file}")
            for split, prefix in kinds.items()
            for what, file in files.items()
        }

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example]]]:
        paths = dl_manager.download(self.urls())
        return {
            split: self._generate_examples(paths[f"{split}_images"], paths[f"{split}_labels"])
            for split in ("train", "test")
        }

    def _generate_examples(
        self, images: PathLike[str], labels: PathLike[str]
    ) -> Iterator[tuple[int, Example]]:
        pixels = _read_idx(images, header=16).reshape(-1, 28, 28)
        for index, (image, label) in enumerate(
            zip(pixels, _read_idx(labels, header=8), strict=True)
        ):
            yield index, {"image": Image.fromarray(image), "label": int(label)}


def _read_idx(path: PathLike[str], header: int) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


class MNIST(_Idx, mnist.MNIST, skip_registration=True):
    """MNIST."""

    name = "mnist"


class FashionMNIST(_Idx, mnist.FashionMNIST, skip_registration=True):
    """Fashion-MNIST."""

    name = "fashion_mnist"


class KMNIST(_Idx, mnist.KMNIST, skip_registration=True):
    """Kuzushiji-MNIST."""

    name = "kmnist"


class _Binary:
    """The CIFAR family: one archive of binary records."""

    def urls(self) -> dict[str, str]:
        """Of the archive."""
        return {"archive": self._cifar_info.url}

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example]]]:
        info, path = self._cifar_info, dl_manager.download(self.urls())["archive"]
        with tarfile.open(path) as archive:

            def read(name: str) -> bytes:
                return archive.extractfile(info.prefix + name).read()

            for key, file in zip(info.label_keys, info.label_files, strict=True):
                self.info.features[key].names = read(file).decode().split()
            train, test = (
                b"".join(map(read, files)) for files in (info.train_files, info.test_files)
            )
        return {
            "train": self._generate_examples("train_", train),
            "test": self._generate_examples("test_", test),
        }

    def _generate_examples(self, prefix: str, records: bytes) -> Iterator[tuple[int, Example]]:
        keys = self._cifar_info.label_keys
        rows = np.frombuffer(records, np.uint8).reshape(-1, len(keys) + 3 * 32 * 32)
        for index, row in enumerate(rows):
            pixels = row[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
            labels = {key: int(label) for key, label in zip(keys, row, strict=False)}
            image = {"image": Image.fromarray(pixels), "id": f"{prefix}{index:05d}"}
            yield index, labels | image


class Cifar10(_Binary, cifar.Cifar10, skip_registration=True):
    """CIFAR-10."""

    name = "cifar10"


class Cifar100(_Binary, cifar.Cifar100, skip_registration=True):
    """CIFAR-100."""

    name = "cifar100"


BUILDERS = {kind.name: kind for kind in (MNIST, FashionMNIST, KMNIST, Cifar10, Cifar100)}
"""The data sets that need no TensorFlow."""


def files_of(builder: tfds.core.DatasetBuilder) -> dict[str, tuple[str, str]]:
    """URL and SHA-256 of every file that TFDS has registered for one of `BUILDERS`, by name."""
    known = checksums.get_all_url_infos()
    infos = {url: known[url] for url in builder.urls().values()}
    return {info.filename: (url, info.checksum) for url, info in infos.items()}
