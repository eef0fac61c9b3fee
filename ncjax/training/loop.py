"""The training run: epochs, measurements, checkpoints, and going on after a kill."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from ncjax import checks, data, models, parallel, progress, runs
from ncjax.metrics import ClassMoments
from ncjax.training.checkpoints import Checkpoints
from ncjax.training.config import TrainConfig
from ncjax.training.engine import Engine
from ncjax.training.steps import State


def train(
    config: TrainConfig,
    run: Path | str,
    *,
    backend: parallel.Backend = "pmap",
    devices: Sequence[jax.Device] | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Trains a network into a run folder, or finishes the run that the folder holds.

    Args:
        config: what to train.
        run: the folder: `config.json`, `metrics.jsonl` (a row per measured epoch), `checkpoints/`
            and, at the end, `collapse.npz` (class means, counts, W, b).
        backend: "pmap", "shard_map" or "vmap" (`ncjax.parallel`); they agree up to rounding.
        devices: to train on; all of this process's if None.
        show_progress: show a progress bar.

    Returns:
        The metrics as a table: `epoch`, `test_loss`, `test_accuracy`, and, all on the whole
        training set, `loss`, `accuracy`, `nc4_agreement`, `cosine_margin` and every measure of
        `ncjax.metrics.collapse`.

    Raises:
        InputError: unknown data set, a run folder with another config, or a learning rate at which
            training diverges.
    """
    dataset = data.load(config.dataset)
    engine = Engine(config, dataset, backend, devices)
    run = runs.open_run(run, dataclasses.asdict(config) | {"data": dataset.fingerprint})
    with Checkpoints(run) as checkpoints:
        start = engine.initial()
        state = checkpoints.restore(start) or start
        done = int(state.epoch)
        metrics = run / "metrics.jsonl"
        if done and not metrics.exists():
            got, remedy = f"{run}, where it is missing", "Name another folder."
            raise checks.reject("metrics.jsonl", got, "beside the checkpoints of a run", remedy)
        runs.keep_rows(metrics, lambda row: row["epoch"] <= done)
        bar = progress.bar(
            range(done + 1, config.epochs + 1),
            initial=done,
            total=config.epochs,
            desc=f"train {config.loss}",
            unit=" epochs",
            show=show_progress,
        )
        for epoch in bar:
            state = engine.advance(state)
            if config.measured(epoch):
                row, _ = engine.measure(state)
                _check_finite(row, epoch, config)
                runs.append_row(metrics, {"epoch": epoch} | row)
                bar.set_postfix(loss=f"{row['loss']:.1e}", refresh=False)
            if epoch % config.checkpoint_every == 0 or epoch == config.epochs:
                checkpoints.save(state)
    _write_collapse(run, state, engine.measure(state)[1])
    return runs.read_metrics(run)


def _check_finite(row: dict[str, float | None], epoch: int, config: TrainConfig) -> None:
    if row["loss"] is None:
        raise checks.reject(
            "learning_rate",
            f"{config.learning_rate:g}, with which the loss is not finite at epoch {epoch}",
            "small enough for training to stay finite",
            "Lower it, in a new run folder.",
        )


def _write_collapse(run: Path, state: State, moments: ClassMoments) -> None:
    """The last layer's geometry at the end, for figures."""
    W, b = models.classifier(state.variables["params"])
    arrays = {"means": moments.means, "counts": moments.counts, "W": W, "b": b}
    host = {name: np.asarray(array) for name, array in arrays.items()}
    runs.write_atomically(run / "collapse.npz", lambda path: np.savez(path, **host))
