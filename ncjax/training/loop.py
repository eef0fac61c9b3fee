"""Training runs in folders: measured on the way, checkpointed, resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils

from ncjax import checks, data, models, parallel, progress, runs, sop, tgt
from ncjax.training.checkpoints import Checkpoints
from ncjax.training.config import TrainConfig
from ncjax.training.engine import STEPS_AT_ONCE, Engine
from ncjax.training.evaluators import EVALUATORS
from ncjax.training.guides import LATENTS, guide_of
from ncjax.training.steps import State
from ncjax.training.writers import Write, writers_of

SECONDS_BETWEEN_CHECKPOINTS = 600.0
COLLAPSE = "collapse.npz"
ISSUES = "label_issues.csv"


class Diverged(checks.InputError):
    """The loss is no longer finite."""


def train(
    config: TrainConfig,
    run: Path | str,
    *,
    backend: parallel.Backend = "pmap",
    devices: Sequence[jax.Device] | None = None,
    guide: tgt.Guide | None = None,
    writers: Sequence[str] = (),
    show_progress: bool = True,
) -> pd.DataFrame:
    """Trains a network into a run folder, or finishes the run that the folder holds.

    In a `jax.distributed` job every process calls this with the same arguments and a folder that
    they share.

    Args:
        config: what to train.
        run: the folder: `config.json`, `metrics.jsonl` (a row per measured epoch), `checkpoints/`,
            `snapshots/` if asked for and, at the end, `collapse.npz` (class means, counts, W, b),
            of an autoencoder `latents.npz` (mean and covariance of latent points) in its place,
            and, with method "sop", `label_issues.csv` (`ncjax.sop.label_issues`, its samples by
            their number in the data set as it was loaded, with their `row` in the training set).
        backend: "pmap", "shard_map" or "vmap" (`ncjax.parallel`); they agree up to rounding.
        devices: to train on; those of all processes if None.
        guide: a teacher of your own for method "tgt", in place of those that the config names; give
            the same one to a run that goes on.
        writers: where measurements go too: "csv", "tensorboard" (the extra of that name).
        show_progress: show a progress bar.

    Returns:
        The metrics as a table: `epoch`, and what the evaluators found: `loss`, `accuracy`,
        `nc4_agreement`, `cosine_margin` and every measure of `ncjax.metrics.collapse` on the
        training set, the same with `test_` on the test set.

    Raises:
        InputError: unknown data set, a run folder with another config or without room.
        Diverged: an `InputError` too; a learning rate at which the loss does not stay finite.
    """
    _check_evaluators(config)
    dataset = data.load(config.dataset).corrupt(config.corruption)
    guide = guide_of(config, dataset) if guide is None else guide
    engine = Engine(config, dataset, backend, devices, guide)
    asked = dataclasses.asdict(config) | {"data": dataset.fingerprint}
    return _run(engine, runs.open_run(run, asked), writers, show_progress)


def train_ensemble(
    configs: Sequence[TrainConfig],
    run: Path | str,
    *,
    backend: parallel.Backend = "pmap",
    devices: Sequence[jax.Device] | None = None,
    guide: tgt.Guide | None = None,
    writers: Sequence[str] = (),
    show_progress: bool = True,
) -> pd.DataFrame:
    """Trains several runs side by side as one program, into one folder.

    Small networks leave an accelerator, and even a core, idle most of the time; a batch of them
    does not. Convolutions of an ensemble become grouped ones, slow on CPUs: train those in turn.

    Args:
        configs: of runs that differ in loss, hyperparameters, learning rate, decays or seed alone,
            and share their data.
        run: the folder, as of `train`; rows have a `member`, the place in `configs`.
        backend: as in `train`.
        devices: as in `train`.
        guide: as in `train`.
        writers: as in `train`.
        show_progress: show a progress bar.

    Returns:
        The metrics of all members as a table, with `member`, `loss_name` and `seed`.

    Raises:
        InputError: runs that differ in more; and as in `train`.
    """
    configs = tuple(configs)
    _check_evaluators(configs[0])
    dataset = data.load(configs[0].dataset).corrupt(configs[0].corruption)
    guide = guide_of(configs[0], dataset) if guide is None else guide
    engine = Engine(configs, dataset, backend, devices, guide)
    asked = {"members": [dataclasses.asdict(one) for one in configs], "data": dataset.fingerprint}
    return _run(engine, runs.open_run(run, asked), writers, show_progress)


def _check_evaluators(config: TrainConfig) -> None:
    for name in config.evaluators:
        checks.check_choice("evaluators", name, EVALUATORS)


def _run(engine: Engine, run: Path, writers: Sequence[str], show_progress: bool) -> pd.DataFrame:
    if (run / COLLAPSE).exists() or (run / LATENTS).exists():  # what a run writes last
        return runs.read_metrics(run)
    write = writers_of(writers, run)
    config, per_epoch = engine.configs[0], engine.task.steps_per_epoch
    metrics, total = run / "metrics.jsonl", config.epochs * per_epoch
    with (
        Checkpoints(run / "checkpoints") as latest,
        _snapshots(config, run) as snapshots,
        _interruptible() as interrupted,
    ):
        start = engine.initial()
        state = latest.restore(start) or start
        done = _step(state)
        latest.forget_after(done)
        _trim(metrics, done, per_epoch)
        saved = time.monotonic()
        with _bar(config, done, per_epoch, show_progress) as bar:
            while done < total:
                count = min(STEPS_AT_ONCE, _next_stop(config, done, per_epoch) - done)
                state, loss = engine.advance(state, count)
                done += count
                _check_finite(loss, done / per_epoch, engine, latest)
                bar.update(count * config.batch_size)
                epoch, rest = divmod(done, per_epoch)
                if rest == 0 and config.measured(epoch):
                    _append(metrics, epoch, measure(engine, state), engine, write)
                    bar.set_postfix(epoch=epoch, loss=f"{loss:.1e}", refresh=False)
                    if snapshots is not None:
                        snapshots.save(state)
                due = rest == 0 and (epoch % config.checkpoint_every == 0 or done == total)
                late = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                if due or late or interrupted:
                    latest.save(state)
                    saved = time.monotonic()
                if interrupted:
                    raise KeyboardInterrupt(f"saved after step {done}; run again to go on")
    if config.method == "sop":
        _write_issues(run, engine, state)
    if config.reconstructs:
        _write_latents(run, engine, state)
    else:
        _write_collapse(run, engine, state)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("written")
    return runs.read_metrics(run)


def measure(engine: Engine, state: State) -> list[dict[str, float | None]]:
    """A row for each member: what the config's evaluators find, None where it is undefined.

    Args:
        engine: of the run.
        state: to measure.
    """
    found: dict[str, Any] = {}
    for name in engine.configs[0].evaluators:
        found |= EVALUATORS[name](engine, state)
    columns = {name: np.ravel(np.asarray(values, float)) for name, values in found.items()}
    return [
        {n: float(column[i]) if np.isfinite(column[i]) else None for n, column in columns.items()}
        for i in range(len(engine.configs))
    ]


def _snapshots(config: TrainConfig, run: Path) -> contextlib.AbstractContextManager:
    if not config.snapshots:
        return contextlib.nullcontext()
    return Checkpoints(run / "snapshots", keep=None)


def _step(state: State) -> int:
    return int(np.max(state.step))


def _trim(metrics: Path, done: int, per_epoch: int) -> None:
    """Drops rows that were measured after the checkpoint that the run goes on from."""
    if done and not metrics.exists():
        got, remedy = f"{metrics.parent}, where it is missing", "Name another folder."
        raise checks.reject("metrics.jsonl", got, "beside the checkpoints of a run", remedy)
    if jax.process_index() == 0:
        runs.keep_rows(metrics, lambda row: row["epoch"] * per_epoch <= done)


def _next_stop(config: TrainConfig, done: int, per_epoch: int) -> int:
    """The step of the next measurement or checkpoint."""
    epoch = done // per_epoch + 1
    while not (config.measured(epoch) or epoch % config.checkpoint_every == 0):
        epoch += 1
    return epoch * per_epoch


def _append(
    metrics: Path,
    epoch: int,
    rows: list[dict[str, float | None]],
    engine: Engine,
    writers: Sequence[Write],
) -> None:
    if jax.process_index() != 0:
        return
    for number, (row, config) in enumerate(zip(rows, engine.configs, strict=True)):
        names = {"member": number, "loss_name": config.loss, "seed": config.seed}
        row = {"epoch": epoch} | (names if len(rows) > 1 else {}) | row
        runs.append_row(metrics, row)
        for write in writers:
            write(row)


def _bar(config: TrainConfig, done: int, per_epoch: int, show: bool) -> Any:
    return progress.bar(
        initial=done * config.batch_size,
        total=config.epochs * per_epoch * config.batch_size,
        desc=f"train {config.network}, {config.loss}",
        unit=" images",
        unit_scale=True,
        show=show and jax.process_index() == 0,
    )


def _check_finite(loss: float, epoch: float, engine: Engine, checkpoints: Checkpoints) -> None:
    if np.isfinite(loss):
        return
    rates = ", ".join(f"{c:g}" for c in sorted({c.learning_rate for c in engine.configs}))
    last = checkpoints.latest()
    good = "there is none yet" if last is None else f"the last good one is of step {last}"
    error = checks.reject(
        "learning_rate",
        f"{rates}, with which the loss is not finite at epoch {epoch:.3g}",
        "small enough for training to stay finite",
        f"Lower it, in a new run folder. Of the checkpoints {good}.",
    )
    raise Diverged(*error.args)


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM fill, so that a run can save before it stops."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda number, _: received.append(number)) for one in signals]
    try:
        yield received
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _write_issues(run: Path, engine: Engine, state: State) -> None:
    """What SOP takes for wrong labels; with a column for the member of an ensemble."""
    if jax.process_index() != 0:
        return
    labels, numbers = engine.dataset.labels, engine.dataset.numbers
    tables = []
    for number, noise in enumerate(engine.of_members(state.samples)):
        table = sop.label_issues(noise, labels).rename(columns={"sample": "row"})
        table.insert(0, "sample", numbers[table["row"]])
        tables.append(table.assign(member=number) if len(engine.configs) > 1 else table)
    runs.write_atomically(run / ISSUES, pd.concat(tables).to_csv(index=False))


def _write_collapse(run: Path, engine: Engine, state: State) -> None:
    """The last layer's geometry at the end, for figures; with a leading axis for an ensemble."""
    moments = engine.collapse(state)[1]
    classifier = jax.vmap(models.classifier) if len(engine.configs) > 1 else models.classifier
    W, b = classifier(state.variables)
    means = jax.vmap(lambda m: m.means)(moments) if W.ndim == 3 else moments.means
    arrays = {"means": means, "counts": moments.counts, "W": W, "b": b}
    host = {name: np.asarray(array) for name, array in arrays.items()}
    if jax.process_index() == 0:
        runs.write_atomically(run / COLLAPSE, lambda path: np.savez(path, **host))


def _write_latents(run: Path, engine: Engine, state: State) -> None:
    """Where an autoencoder's training images lie in its latent space."""
    moments = jax.device_get(engine.collapse(state)[1])
    size = moments.counts.sum()
    shares = moments.counts[:, None] / size
    means = np.where(shares > 0, moments.origin + moments.offset, 0)
    mean = (shares * means).sum(0)
    between = (shares * (means - mean)).T @ (means - mean)
    arrays = {"mean": mean, "covariance": moments.scatter / size + between}
    if jax.process_index() == 0:
        runs.write_atomically(run / LATENTS, lambda path: np.savez(path, **arrays))
