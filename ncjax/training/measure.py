"""A network measured on a whole data set: loss, accuracy and every collapse metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ncjax import losses, models
from ncjax.metrics import ClassMoments, collapse, sample_geometry
from ncjax.parallel import AXIS
from ncjax.types import AnyArray


def make_evaluate(model: nn.Module, loss_fn: losses.Loss) -> Callable[..., dict[str, jax.Array]]:
    """The work of one device in an evaluation, for `ncjax.parallel.across_devices`.

    Args:
        model: returns `(logits, features)`.
        loss_fn: per example.

    Returns:
        `evaluate(variables, images, labels, mask) -> {"loss", "accuracy"}` over
        `[batches, rows, ...]`, averaged over the rows of all devices.
    """

    def evaluate(variables: Mapping[str, Any], *batches: AnyArray) -> dict[str, jax.Array]:
        def quantities(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
            logits, _ = model.apply(variables, x, train=False)
            return _fit(loss_fn, logits, y)

        return _averages(quantities, batches)

    return evaluate


def make_measure(
    model: nn.Module, loss_fn: losses.Loss
) -> Callable[..., tuple[dict[str, jax.Array], ClassMoments]]:
    """The work of one device in a measurement of collapse, for `across_devices`.

    Args:
        model: returns `(logits, features)`, its head named as `ncjax.models` does.
        loss_fn: per example.

    Returns:
        `measure(variables, images, labels, mask) -> (row, moments)` over `[batches, rows, ...]`:
        two passes over this device's share, the moments joined across devices in between.
    """

    def measure(
        variables: Mapping[str, Any], *batches: AnyArray
    ) -> tuple[dict[str, jax.Array], ClassMoments]:
        W, b = models.classifier(variables["params"])

        def accumulate(moments: ClassMoments, batch: tuple) -> tuple[ClassMoments, None]:
            x, y, valid = batch
            _, features = model.apply(variables, x, train=False)
            return moments.update(features, y, valid), None

        moments, _ = jax.lax.scan(accumulate, ClassMoments.zeros(*W.shape, W.dtype), batches)
        moments = moments.psum(AXIS)

        def quantities(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
            logits, features = model.apply(variables, x, train=False)
            samples = sample_geometry(features, y, moments, W, b)
            return _fit(loss_fn, logits, y) | {
                "nc4_agreement": samples.predicted == samples.nearest_class,
                "cosine_margin": samples.cosine_margin,
            }

        return _averages(quantities, batches) | collapse(moments, W, b).as_dict(), moments

    return measure


def _fit(loss_fn: losses.Loss, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    return {"loss": loss_fn(logits, labels), "accuracy": logits.argmax(-1) == labels}


def _averages(
    quantities: Callable[[jax.Array, jax.Array], dict[str, jax.Array]],
    batches: tuple[jax.Array, ...],
) -> dict[str, jax.Array]:
    """Means of per-example quantities over the unmasked rows of all batches and devices."""

    def totals(batch: tuple) -> dict[str, jax.Array]:
        x, y, valid = batch
        counted = quantities(x, y) | {"count": jnp.ones_like(valid)}
        return {n: jnp.where(valid, q.astype(x.dtype), 0).sum() for n, q in counted.items()}

    sums = jax.tree.map(lambda t: jax.lax.psum(t.sum(), AXIS), jax.lax.map(totals, batches))
    count = sums.pop("count")
    return {name: total / count for name, total in sums.items()}
