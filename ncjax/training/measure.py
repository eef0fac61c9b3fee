"""A network measured on a whole data set: loss, accuracy and every collapse metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ncjax import losses, models
from ncjax.metrics import (
    ClassMoments,
    centred_means,
    collapse,
    mean_span,
    sample_geometry,
)
from ncjax.models.text import averaged, word_weights
from ncjax.parallel import AXIS
from ncjax.training.examples import Batches
from ncjax.training.members import Member, loss_of
from ncjax.training.steps import Task
from ncjax.types import AnyArray

Measured = tuple[dict[str, jax.Array], ClassMoments]


def make_measure(task: Task) -> Callable[..., Measured]:
    """The work of one device in a measurement of collapse, for `across_devices`.

    Args:
        task: of the run; the model's head is named as `ncjax.models` does.

    Returns:
        `measure(member, variables, *batches) -> (row, moments)`, with the fields of `Batches`: two
        passes over this device's share, the moments joined across devices in between.
    """

    def measure(member: Member, variables: Mapping[str, Any], *share: AnyArray) -> Measured:
        W, b = models.classifier(variables)
        batches = Batches(*share)
        loss_fn = loss_of(member, task.losses)

        def outputs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return task.model.apply(variables, task.inputs(x), train=False)

        def accumulate(
            moments: ClassMoments, x: jax.Array, y: jax.Array, _: jax.Array, valid: jax.Array
        ) -> ClassMoments:
            return moments.update(outputs(x)[1], y, valid)

        nothing = ClassMoments.zeros(*W.shape, W.dtype, scatter=False)
        moments = batches.fold(accumulate, nothing).psum(AXIS)
        span = mean_span(centred_means(moments))

        def quantities(x: jax.Array, y: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
            logits, features = outputs(x)
            samples = sample_geometry(features, y, moments, W, b)
            right = jax.nn.one_hot(y, len(W), dtype=bool) & (logits.argmax(-1) == y)[:, None]
            return _fit(loss_fn, logits, y, clean) | {
                "recalls": right,
                "nc4_agreement": samples.predicted == samples.nearest_class,
                "cosine_margin": samples.cosine_margin,
                "variance": span.squared_coordinates(features, y, moments),
            }

        row = _averages(quantities, batches)
        counts = moments.counts.astype(jnp.float32)
        row["recalls"] = row["recalls"] * counts.sum() / counts
        found = dataclasses.replace(span, variance=row.pop("variance"))
        return row | collapse(moments, W, b, span=found).as_dict(), moments

    return measure


def make_reconstruction(task: Task) -> Callable[..., Measured]:
    """The work of one device in measuring an autoencoder, for `across_devices`.

    Returns:
        `measure(member, variables, *batches) -> (row, moments)`: the mean squared error of a pixel,
        `mse`, and the mean `divergence`; of texts `word_accuracy`, the mean share of a text's words
        that come back; moments of latent points.
    """
    texts = task.config.network == "text_autoencoder"

    def measure(_: Member, variables: Mapping[str, Any], *share: AnyArray) -> Measured:
        batches = Batches(*share)

        def outputs(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = x if texts else (task.inputs(x), y, None)
            return task.model.apply(variables, inputs, train=False)

        def accumulate(
            moments: ClassMoments, x: jax.Array, y: jax.Array, _: jax.Array, valid: jax.Array
        ) -> ClassMoments:
            return moments.update(outputs(x, y)[1], y, valid)

        def quantities(x: jax.Array, y: jax.Array, _: jax.Array) -> dict[str, jax.Array]:
            found, target = outputs(x, y)[0], task.inputs(x).reshape(len(x), -1)
            if texts:
                written = found.reshape(*target.shape, -1).argmax(-1)
                right = (written == target)[..., None].astype(jnp.float32)
                return {"word_accuracy": averaged(right, word_weights(x))[:, 0]}
            return {"mse": jnp.square(found[:, :-1] - target).mean(-1), "divergence": found[:, -1]}

        nothing = ClassMoments.zeros(task.model.num_classes, task.model.dim, jnp.float32)
        moments = batches.fold(accumulate, nothing).psum(AXIS)
        return _averages(quantities, batches), moments

    return measure


def make_layers(task: Task) -> Callable[..., dict[str, jax.Array]]:
    """The work of one device in measuring every layer, for `across_devices`.

    Returns:
        `measure(member, variables, *batches) -> row` with, for each intermediate that the model
        sows (its mean over the image, if it is one), `nc1_trace_ratio`, `nc1_pinv` and `nc2_means`
        under `NAME/`.
    """

    def measure(_: Member, variables: Mapping[str, Any], *share: AnyArray) -> dict[str, jax.Array]:
        batches = Batches(*share)

        def intermediates(x: jax.Array) -> dict[str, jax.Array]:
            _, seen = task.model.apply(
                variables, task.inputs(x), train=False, mutable=["intermediates"]
            )
            layers = {name: values[0] for name, values in seen["intermediates"].items()}
            return {
                name: layer.mean(tuple(range(1, layer.ndim - 1))).astype(jnp.float32)
                for name, layer in layers.items()
            }

        def accumulate(
            moments: dict, x: jax.Array, y: jax.Array, _: jax.Array, valid: jax.Array
        ) -> dict:
            layers = intermediates(x)
            return {n: m.update(layers[n], y, valid) for n, m in moments.items()}

        K = task.model.num_classes
        shapes = jax.eval_shape(intermediates, batches[0][0])
        zeros = {n: ClassMoments.zeros(K, s.shape[-1], s.dtype) for n, s in shapes.items()}
        moments = batches.fold(accumulate, zeros)
        return {
            f"{name}/{measure}": value
            for name, of_layer in moments.items()
            for measure, value in collapse(of_layer.psum(AXIS)).as_dict().items()
            if measure in ("nc1_trace_ratio", "nc1_pinv", "nc2_means")
        }

    return measure


def _fit(
    loss_fn: losses.Loss, logits: jax.Array, labels: jax.Array, clean: jax.Array
) -> dict[str, jax.Array]:
    predicted = logits.argmax(-1)
    fit = {"loss": loss_fn(logits, labels), "accuracy": predicted == labels}
    memorised = (predicted == labels) & (labels != clean)
    return fit | {"clean_accuracy": predicted == clean, "memorised": memorised}


def _averages(
    quantities: Callable[..., dict[str, jax.Array]], batches: Batches
) -> dict[str, jax.Array]:
    """Means of per-example quantities over the unmasked rows of all batches and devices.

    A quantity is `[rows]` or `[rows, r]`.
    """

    def totals(*examples: jax.Array) -> dict[str, jax.Array]:
        *examples, valid = examples
        counted = quantities(*examples) | {"count": jnp.ones_like(valid)}
        kept = {n: q.astype(jnp.float32).T for n, q in counted.items()}  # rows last
        masks = {n: jnp.broadcast_to(valid, q.shape) for n, q in kept.items()}
        return {n: jnp.where(masks[n], q, 0).sum(-1) for n, q in kept.items()}

    def add(sums: dict[str, jax.Array], *batch: jax.Array) -> dict[str, jax.Array]:
        return jax.tree.map(jnp.add, sums, totals(*batch))

    shapes = jax.eval_shape(totals, *batches[0])
    nothing = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    sums = jax.lax.psum(batches.fold(add, nothing), AXIS)
    count = sums.pop("count")
    return {name: total / count for name, total in sums.items()}
