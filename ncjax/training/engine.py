"""The compiled functions of a run, and its data, on the devices that it uses."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from ncjax import data, losses, parallel
from ncjax.metrics import ClassMoments
from ncjax.training import steps
from ncjax.training.config import TrainConfig
from ncjax.training.measure import make_evaluate, make_measure


class Engine:
    """Advances and measures the state of a run.

    Args:
        config: the run's.
        dataset: to train and test on.
        backend: as in `ncjax.parallel.across_devices`.
        devices: to run on; all of this process's if None.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: data.Dataset,
        backend: parallel.Backend = "pmap",
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        self._config, self._dataset = config, dataset
        devices = tuple(jax.local_devices() if devices is None else devices)
        self._shards = 1 if backend == "vmap" else len(devices)
        steps.check_batch_size(config.batch_size, len(dataset.labels), self._shards)
        self._model = config.model(dataset.num_classes, parallel.AXIS)
        self._optimizer = config.optimizer(len(dataset.labels) // config.batch_size)
        loss_fn = losses.get(config.loss, **config.hyperparameters)
        self._epoch = parallel.across_devices(
            steps.make_epoch(self._model, self._optimizer, loss_fn),
            in_axes=(None, None, None, 0),
            out_axes=None,
            backend=backend,
            devices=devices,
        )
        placement = {"in_axes": (None, 0, 0, 0), "backend": backend, "devices": devices}
        self._measure = parallel.across_devices(
            make_measure(self._model, loss_fn), out_axes=(None, None), **placement
        )
        self._evaluate = parallel.across_devices(
            make_evaluate(self._model, loss_fn), out_axes=None, **placement
        )
        self._train = parallel.shard_batches((dataset.images, dataset.labels), self._shards)
        test = (dataset.test_images, dataset.test_labels)
        self._test = parallel.shard_batches(test, self._shards) if len(test[1]) else None

    def initial(self) -> steps.State:
        """The state before the first epoch."""
        example = self._dataset.images[:1]
        return steps.init_state(self._model, self._optimizer, example, self._config.seed)

    def advance(self, state: steps.State) -> steps.State:
        """The state one epoch later."""
        config, dataset = self._config, self._dataset
        rows = steps.batch_rows(
            len(dataset.labels), config.batch_size, int(state.epoch), config.seed, self._shards
        )
        # Waiting here keeps queued collectives from starving each other on few CPU cores.
        return jax.block_until_ready(self._epoch(state, dataset.images, dataset.labels, rows))

    def measure(self, state: steps.State) -> tuple[dict[str, float | None], ClassMoments]:
        """The metrics of a state as numbers (None where undefined), and the training moments."""
        measured, moments = self._measure(state.variables, *self._train)
        row = jax.device_get(measured)
        if self._test is not None:
            tested = jax.device_get(self._evaluate(state.variables, *self._test))
            row |= {f"test_{name}": value for name, value in tested.items()}
        return {n: float(v) if np.isfinite(v) else None for n, v in row.items()}, moments
