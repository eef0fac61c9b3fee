"""The samples of each class, as row numbers `[K, M]` filled up with N where a class has fewer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from ncjax import checks
from ncjax.redunet.spectra import Spectra
from ncjax.types import AnyArray


def places_of(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Of labels that are known: int32 `[K, M]`, M being the size of the largest class."""
    counts = np.bincount(labels, minlength=num_classes)
    places = np.full((num_classes, counts.max()), len(labels), np.int32)
    for k in range(num_classes):
        places[k, : counts[k]] = np.flatnonzero(labels == k)
    return places


def places_by(
    labels: Integer[AnyArray, " N"], num_classes: int | None, largest_class: int | None, count: int
) -> AnyArray:
    """Of labels that may be traced.

    Args:
        labels: class indices.
        num_classes: K; one more than the largest label if None.
        largest_class: M, where labels are traced; N if None. A class with more samples than that
            makes all row numbers negative, which `rows_of` answers with NaN.
        count: N.

    Raises:
        InputError: labels out of range or of another number, or traced without `num_classes`.
    """
    checks.check_shape("labels", labels, (count,), "[N]")
    if checks.is_concrete(labels):
        most = np.iinfo(np.int32).max if num_classes is None else num_classes
        checks.check_labels("labels", labels, most)
        known = np.asarray(labels)
        return places_of(known, int(known.max()) + 1 if num_classes is None else num_classes)
    if num_classes is None:
        raise checks.reject("num_classes", None, "given where labels are traced")
    checks.check_labels("labels", labels, num_classes)
    most = count if largest_class is None else min(largest_class, count)
    order = jnp.argsort(labels)
    counts = jnp.bincount(labels, length=num_classes)
    starts = jnp.cumsum(counts) - counts
    ranks = jnp.arange(most)[None, :]
    rows = order.at[starts[:, None] + ranks].get(mode="fill", fill_value=count)
    places = jnp.where(ranks < counts[:, None], rows, count)
    return jnp.where(counts.max() > most, -1, places)


def rows_of(spectra: Spectra, rows: jax.Array) -> jax.Array:
    """Samples by row number, zeros where that is N, NaN where it is negative: `[F, M, C]`."""
    values = spectra.values.at[:, rows].get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return jnp.where((rows < 0)[None, :, None], jnp.nan, values)


def counts_of(spectra: Spectra, places: AnyArray) -> jax.Array:
    """Samples of each class, as floats `[K]`."""
    there = jnp.asarray(places) < spectra.values.shape[1]
    return there.sum(1).astype(spectra.weights.dtype)
