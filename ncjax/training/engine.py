"""The compiled functions of a run, and its data, on the devices that it uses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, data, models, parallel, tgt
from ncjax.metrics import ClassMoments
from ncjax.sop.peers import confusion
from ncjax.training import members, steps
from ncjax.training.config import TEXT, TrainConfig
from ncjax.training.examples import Part, Store
from ncjax.training.measure import make_layers, make_measure, make_reconstruction

STEPS_AT_ONCE = 200
"""Most steps in one call of the device: their dispatch costs nothing, and progress still shows."""


class Engine:
    """Advances and measures the state of a run, or of an ensemble of runs side by side.

    Args:
        configs: a run's, or those of an ensemble (`ncjax.training.members`), whose states then have
            a leading axis.
        dataset: to train and test on.
        backend: as in `ncjax.parallel.across_devices`.
        devices: to run on; those of all processes if None.
        guide: the teacher of method "tgt"; without one such a run can be measured, not advanced.
    """

    def __init__(
        self,
        configs: TrainConfig | Sequence[TrainConfig],
        dataset: data.Dataset,
        backend: parallel.Backend = "pmap",
        devices: Sequence[jax.Device] | None = None,
        guide: tgt.Guide | None = None,
    ) -> None:
        self.configs = (configs,) if isinstance(configs, TrainConfig) else tuple(configs)
        members.check_ensemble(self.configs)
        self.dataset, config = dataset, self.configs[0]
        devices = tuple(jax.devices() if devices is None else devices)
        self._ours = [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
        self._shards = 1 if backend == "vmap" else len(devices)
        if backend == "vmap":
            self._ours = [0]
        _check_views(config, dataset.images)
        _check_bounds(config, dataset.images)
        _check_words(config, dataset.images)
        steps.check_batch_size(config.batch_size, len(dataset.labels), self._shards)
        draws = config.method == "tgt" and config.tgt.needs_unlabelled
        self._store = Store.of(dataset, _unlabelled(dataset) if draws else None)
        self.task = steps.Task(
            config=config,
            model=config.model(
                dataset.num_classes, parallel.AXIS, models.fastest(), dataset.images.shape[1:]
            ),
            losses=members.loss_names(self.configs),
            inputs=dataset.unit if config.reconstructs else dataset.inputs,
            standardised=dataset.standardised,
            numbers=dataset.numbers,
            confusion=_confusion(dataset) if config.method == "forward" else None,
            labels=dataset.labels,
            guide=guide,
            unlabelled=len(self._store.parts.get("unlabelled", ())),
        )
        own = [members.member_of(one, self.configs) for one in self.configs]
        self._member = members.stacked(own) if self._many else own[0]
        self._placement = {"backend": backend, "devices": devices}
        advance = self._over_members(steps.make_advance(self.task), (0, 0, None, None, 0, None))
        self._advance = parallel.across_devices(
            advance,
            in_axes=(None, None, None, None, 0, None),
            out_axes=(None, None),
            **self._placement,
        )
        store = (self._store.images, self._store.labels, self._store.clean_labels)
        self._images, self._labels, self._clean = parallel.replicated(
            store, devices[: self._shards]
        )
        whole = (make_reconstruction if config.reconstructs else make_measure)(self.task)
        self._measures = {
            "whole": self._measuring(whole, (None, None)),
            "layers": self._measuring(make_layers(self.task), None),
        }

    @property
    def _many(self) -> bool:
        return len(self.configs) > 1

    def _over_members(
        self, fn: Callable[..., Any], in_axes: tuple[int | None, ...]
    ) -> Callable[..., Any]:
        return jax.vmap(fn, in_axes=in_axes) if self._many else fn

    def _measuring(self, fn: Callable[..., Any], out_axes: Any) -> Callable[..., Any]:
        over = self._over_members(fn, (0, 0, None, None, None, None, None, None))
        in_axes = (None, None, None, None, None, 0, 0, None)
        return parallel.across_devices(over, in_axes=in_axes, out_axes=out_axes, **self._placement)

    def initial(self) -> steps.State:
        """The state before the first step."""
        init = functools.partial(steps.init_state, self.task, example=self.dataset.images[:1])
        return jax.jit(self._over_members(lambda member: init(member), (0,)))(self._member)

    def advance(self, state: steps.State, count: int | None = None) -> tuple[steps.State, float]:
        """The state some steps later, and the mean loss on the way (the largest of an ensemble).

        Args:
            state: from `initial`, `advance` or a checkpoint.
            count: of steps; by default as many as end the epoch.

        Returns:
            The new state, and the loss as a float.
        """
        done = int(np.max(state.step))
        if count is None:
            count = self.task.steps_per_epoch - done % self.task.steps_per_epoch
        loss = 0.0
        for start in range(done, done + count, STEPS_AT_ONCE):
            now = min(STEPS_AT_ONCE, done + count - start)
            rows = np.stack([self._rows(start, now, one.seed) for one in self.configs], axis=1)
            rows = rows if self._many else rows[:, 0]
            arguments = (self._images, self._labels, rows[self._ours], jnp.int32(now))
            # Waiting here keeps queued collectives from starving each other on few CPU cores.
            state, losses = jax.block_until_ready(self._advance(self._member, state, *arguments))
            loss = float(np.max(losses))
        return state, loss

    def _rows(self, start: int, count: int, seed: int) -> np.ndarray:
        """The batches of steps from `start` on, `[shards, STEPS_AT_ONCE, ...]`; the rest is 0."""
        per_epoch, batch_size = self.task.steps_per_epoch, self.configs[0].batch_size
        at_once = min(STEPS_AT_ONCE, per_epoch * self.configs[0].epochs)
        rows = np.zeros((self._shards, at_once, batch_size // self._shards), np.int32)
        for epoch in range(start // per_epoch, -(-(start + count) // per_epoch)):
            of_epoch = _epoch_rows(self.task.num_examples, batch_size, epoch, seed, self._shards)
            first, last = epoch * per_epoch, (epoch + 1) * per_epoch
            low, high = max(first, start), min(last, start + count)
            rows[:, low - start : high - start] = of_epoch[:, low - first : high - first]
        return rows

    def of_members(self, tree: Any) -> list[Any]:
        """What a state holds of each member, on the host."""
        whole = jax.device_get(tree)
        if not self._many:
            return [whole]
        return [jax.tree.map(lambda leaf, n=n: leaf[n], whole) for n in range(len(self.configs))]

    def collapse(
        self, state: steps.State, part: Part = "train"
    ) -> tuple[dict[str, np.ndarray], ClassMoments]:
        """Loss, accuracy and collapse on a part of the data, and the moments.

        Of an autoencoder, errors and the moments of latent points (`make_reconstruction`).

        Args:
            state: to measure.
            part: "train", by the labels that are given; "clean", the same images by the true ones;
                "validation" or "test".
        """
        row, moments = self._measures["whole"](self._member, state.variables, *self._share(part))
        return jax.device_get(row), moments

    def layers(self, state: steps.State) -> dict[str, np.ndarray]:
        """Collapse of every layer on the training set."""
        found = self._measures["layers"](self._member, state.variables, *self._share("train"))
        return jax.device_get(found)

    def _share(self, part: Part) -> tuple:
        """What a measurement takes of a part of the data: the fields of `Batches`."""
        labels = self._clean if part == "clean" else self._labels
        most = 1024 if self.configs[0].network == "mlp" else 256
        rows, mask, count = self._store.batches(part, self._shards, most)
        return self._images, labels, self._clean, rows[self._ours], mask[self._ours], count


def _check_views(config: TrainConfig, images: np.ndarray) -> None:
    if images.ndim >= 3:
        return
    for_shape = f"for inputs of shape {images.shape[1:]}"
    if config.augment != "none":
        accepted = "'none' unless the inputs are images"
        raise checks.reject("augment", f"{config.augment!r} {for_shape}", accepted)
    if config.method == "sop" and config.sop.consistency:
        got = f"{config.sop.consistency} {for_shape}"
        raise checks.reject("consistency", got, "0 unless the inputs are images")


def _check_bounds(config: TrainConfig, images: np.ndarray) -> None:
    reconstructs = config.network == "autoencoder"
    if images.dtype == np.uint8 or not (reconstructs or config.free.replays):
        return
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        name, value = (
            ("network", "'autoencoder'") if reconstructs else ("free.replays", config.free.replays)
        )
        got = f"{value} for inputs from {low:g} to {high:g}"
        accepted = "a classifier" if reconstructs else "0"
        raise checks.reject(name, got, f"{accepted} unless inputs are between 0 and 1")


def _check_words(config: TrainConfig, images: np.ndarray) -> None:
    """Word numbers go with networks of texts, and nothing else does."""
    words = np.issubdtype(images.dtype, np.integer) and images.dtype != np.uint8
    if words != (config.network in TEXT):
        what = "word numbers" if words else f"inputs of {images.dtype}"
        accepted = f"one of {', '.join(TEXT)}" if words else "a network of images"
        raise checks.reject("network", f"{config.network!r} for {what}", accepted)
    if words and int(images.max()) >= config.vocabulary:
        got = f"{config.vocabulary} for word numbers up to {images.max()}"
        raise checks.reject("vocabulary", got, "larger than every word number")


def _unlabelled(dataset: data.Dataset) -> np.ndarray:
    if dataset.unlabelled is None or not len(dataset.unlabelled):
        remedy = "Set corruption.unlabelled, with a subset or a long tail that leaves some out."
        raise checks.reject("tgt", "a run without unlabelled images", "one that has some", remedy)
    return dataset.unlabelled


def _confusion(dataset: data.Dataset) -> np.ndarray:
    return confusion(dataset.clean_labels, dataset.labels, dataset.num_classes)


_epoch_rows = functools.lru_cache(maxsize=64)(steps.batch_rows)
