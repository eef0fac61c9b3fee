"""All examples of a run as one array, and the batches of each part of them as its rows.

As every part is measured through rows of the same array, in batches of the same shape, one compiled
program measures them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, data
from ncjax.types import AnyArray

Part = Literal["train", "clean", "validation", "test"]
Rows = tuple[np.ndarray, np.ndarray, np.int32]


@dataclasses.dataclass(frozen=True)
class Store:
    """The examples of a data set.

    Attributes:
        images: of all parts, `[N + ..., ...]`; the training set comes first.
        labels: as they are given; 0 where there are none.
        clean_labels: the true ones.
        parts: which rows are each part's.
    """

    images: np.ndarray
    labels: np.ndarray
    clean_labels: np.ndarray
    parts: Mapping[str, range]

    @classmethod
    def of(cls, dataset: data.Dataset, unlabelled: np.ndarray | None = None) -> Store:
        """Of a data set.

        Args:
            dataset: its training, validation and test images.
            unlabelled: images that follow those of the training set, `[M, ...]`.
        """
        d = dataset
        arrays = {"train": (d.images, d.labels, d.clean_labels)}
        if unlabelled is not None:
            none = np.zeros(len(unlabelled), d.labels.dtype)
            arrays["unlabelled"] = (unlabelled, none, none)
        if d.validation_images is not None:
            arrays["validation"] = (d.validation_images, d.validation_labels, d.validation_labels)
        arrays["test"] = (d.test_images, d.test_labels, d.test_labels)
        parts, end = {}, 0
        for part, (images, *_) in arrays.items():
            parts[part] = range(end, end := end + len(images))
        held = [each for each in arrays.values() if len(each[0])]
        whole = (np.concatenate(each) for each in zip(*held, strict=True))
        return cls(*whole, parts | {"clean": parts["train"]})

    def batches(self, part: Part, shards: int, most: int) -> Rows:
        """The batches of a part, in the shape that all parts share.

        Args:
            part: of `parts`.
            shards: devices that share them.
            most: rows that one device sees at once.

        Returns:
            Rows `[shards, batches, rows]`, a mask of those that count, and the number of batches
            that have any.

        Raises:
            InputError: nothing is in this part.
        """
        rows = self.parts.get(part, range(0))
        if not rows:
            raise checks.reject("part", f"{part!r}, which is empty", "a part with examples")
        largest = max(len(rows) for name, rows in self.parts.items() if name != "unlabelled")
        per_shard = -(-largest // shards)
        batches = -(-per_shard // most)
        size = -(-per_shard // batches)
        count = -(-len(rows) // (shards * size))
        places = np.arange(shards * count * size).reshape(shards, count, size)
        padding = ((0, 0), (0, batches - count), (0, 0))
        taken = rows.start + np.minimum(places, len(rows) - 1)
        mask = np.pad(places < len(rows), padding)
        return np.pad(taken, padding).astype(np.int32), mask, np.int32(count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batches:
    """A device's batches of a part, in a compiled program.

    Attributes:
        images: of all parts, `[N, ...]`.
        labels: `[N]`.
        clean_labels: `[N]`.
        rows: of the part, `[batches, rows]`.
        mask: those that count, of the same shape.
        count: batches that have any.
    """

    images: AnyArray
    labels: AnyArray
    clean_labels: AnyArray
    rows: AnyArray
    mask: AnyArray
    count: AnyArray

    def __getitem__(self, i: Any) -> tuple[jax.Array, ...]:
        """Images, labels, clean labels and mask of a batch."""
        rows = jnp.asarray(self.rows)[i]
        arrays = (self.images, self.labels, self.clean_labels)
        return (*(jnp.asarray(array)[rows] for array in arrays), jnp.asarray(self.mask)[i])

    def fold(self, update: Callable[..., Any], start: Any) -> Any:
        """`update(carry, images, labels, clean_labels, mask)` over all batches that count."""
        return jax.lax.fori_loop(0, self.count, lambda i, carry: update(carry, *self[i]), start)
