"""What the experiments with networks share: base runs, training them all, and the report."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import pandas as pd

from experiments.tables import markdown
from ncjax import progress, runs, training
from ncjax.data import Corruption
from ncjax.training import TrainConfig
from ncjax.training.members import VARIED

Configs = Mapping[tuple, TrainConfig]
"""Runs by what an experiment varies: the values of its keys, in order."""
NC = ("nc1_pinv", "nc2_means", "nc2_classifier", "nc3_self_duality", "nc3_etf", "nc4_agreement")

DIGITS = TrainConfig(widths=(64, 64), epochs=20, batch_size=120, measure_every=5)
"""Of every smoke preset: seconds."""
MLP = TrainConfig(
    dataset="fashion_mnist",
    widths=(256, 256, 256, 256),
    epochs=150,
    batch_size=250,
    learning_rate=1e-3,
    weight_decay=2e-2,
)
"""All of Fashion-MNIST.

The product of rate and decay sets the noise of normalised layers, hence whether all labels can be
fitted; at the same product the larger decay, which also acts on the head, collapses sooner.
"""
SUBSET = dataclasses.replace(
    MLP,
    corruption=Corruption(per_class=1000),
    epochs=120,
    batch_size=100,
    learning_rate=2.5e-3,
    measure_every=20,
)
"""Ten thousand images of it."""
CNN = TrainConfig(
    dataset="fashion_mnist",
    corruption=Corruption(per_class=200),
    network="cnn",
    width=16,
    epochs=400,
    batch_size=50,
    learning_rate=1e-2,
    weight_decay=2e-2,
    measure_every=20,
)
"""Two thousand images, two hundred a class."""
RESNET18 = TrainConfig(
    dataset="fashion_mnist",
    network="resnet18",
    width=64,
    dtype="bfloat16",
    epochs=200,
    batch_size=128,
    learning_rate=0.05,
    weight_decay=5e-4,
    schedule="step",
    drops=(0.2, 0.4, 0.6, 0.8),
)
"""For one accelerator."""
PAPER_A = dataclasses.replace(RESNET18, dataset="cifar10", stem="imagenet", dtype="float32")
"""2105.02375: ResNet-18, 200 epochs, a tenth of the rate every 40."""
PAPER_C = TrainConfig(
    dataset="cifar100",
    network="resnet50",
    width=64,
    augment="crop_flip",
    epochs=800,
    batch_size=100,
    learning_rate=0.1,
    weight_decay=5e-4,
    clip=2.0,
    schedule="step",
    drops=(3 / 7, 5 / 7),
)
"""2210.02192: ResNet-50 with a width inside its blocks, crops and flips."""


def experiment(
    name: str,
    configs: Configs,
    keys: Sequence[str],
    columns: Sequence[str],
    run: Path,
    draw: Callable[[pd.DataFrame, Path], object],
    finish: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    diverged: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Trains, tabulates over seeds, draws and says where all of it is.

    Args:
        name: of the experiment, for files.
        configs: the runs.
        keys: what they vary; "seed" is averaged over.
        columns: of the summary.
        run: folder for everything; the same command goes on where a killed one stopped.
        draw: makes the figures from all measurements, in a folder.
        finish: adds columns to the last measurements.
        diverged: as in `trained`.

    Returns:
        The last measurement of every run.
    """
    started = time.perf_counter()
    print(f"device: {jax.devices()[0].device_kind}, {len(configs)} runs, writing to {run}")
    asked = {json.dumps(key): dataclasses.asdict(config) for key, config in configs.items()}
    run = runs.open_run(run, asked)
    table = trained(configs, keys, run, diverged)
    runs.write_atomically(run / "metrics.csv", table.to_csv(index=False))
    ends = last(table, keys).set_index(list(keys)).loc[list(configs)].reset_index()
    ends = ends if finish is None else finish(ends)
    varied = [key for key in keys if key != "seed"]
    summary = markdown(spread(ends, varied, columns))
    runs.write_atomically(run / f"{name}.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    draw(table, run / "figures")
    print(summary)
    print(f"written: {run}, after {time.perf_counter() - started:.0f} s")
    return ends


def trained(
    configs: Configs, keys: Sequence[str], run: Path, diverged: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Trains whatever is not yet trained; all measurements of all runs.

    Runs of an MLP that differ only in what an ensemble may differ in train as one
    (`ncjax.training.train_ensemble`); all others one after the other.

    Args:
        configs: the runs.
        keys: names of the columns that say which run a row is of.
        run: folder for a run folder a group.
        diverged: what is measured, at its last epoch, of a run whose loss does not stay finite;
            such a run is an error if None.

    Returns:
        The rows of all `metrics.jsonl`, with the keys, `run`, the folder, and `member`; their
        `loss` is `mean_loss`.
    """
    tables = []
    for names in progress.bar(list(_groups(configs)), desc="networks", unit=" groups"):
        members = [configs[name] for name in names]
        folder = run / "networks" / _slug(members)
        if len(members) > 1:
            table = training.train_ensemble(members, folder)
            table = table.drop(columns=["seed", "loss_name"])
        else:
            table = _alone(members[0], folder, diverged).assign(member=0)
        labels = pd.DataFrame(names, columns=list(keys)).assign(run=str(folder))
        table = table.rename(columns={"loss": "mean_loss"})  # keys name losses
        tables.append(table.join(labels, on="member"))
        jax.clear_caches()
    return pd.concat(tables, ignore_index=True)


def _alone(config: TrainConfig, folder: Path, diverged: Mapping[str, float] | None) -> pd.DataFrame:
    try:
        return training.train(config, folder)
    except training.Diverged:
        if diverged is None:
            raise
        return pd.DataFrame([{"epoch": config.epochs, **diverged}])


def _groups(configs: Configs) -> list[list[tuple]]:
    """Names of runs that train together."""

    def shared(name: tuple) -> str:
        fields = dataclasses.asdict(configs[name])
        alike = {key: value for key, value in fields.items() if key not in VARIED}
        alone = None if configs[name].network == "mlp" else name
        return json.dumps([alike, alone], default=str)

    ordered = sorted(configs, key=shared)
    return [list(names) for _, names in itertools.groupby(ordered, key=shared)]


def _slug(members: Sequence[TrainConfig]) -> str:
    """A folder name for a group: readable, and its own."""
    text = json.dumps([dataclasses.asdict(one) for one in members], default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    losses = "-".join(dict.fromkeys(one.loss for one in members))
    return f"{members[0].network}-{losses}-{digest}"


def last(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The last measurement of every run, with `terminal_epoch`, the first at full accuracy.

    And `nc1_fall`, NC1 over its value after the first epoch.
    """
    groups = table.sort_values("epoch").groupby(list(keys), sort=False, dropna=False)
    ends = groups.tail(1).set_index(list(keys))
    full = table[table["accuracy"] == 1].groupby(list(keys), dropna=False)["epoch"].min()
    ends["terminal_epoch"] = full.reindex(ends.index)
    ends["nc1_fall"] = ends["nc1_pinv"] / groups["nc1_pinv"].first().reindex(ends.index)
    return ends.reset_index()


def spread(table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over what the keys leave free (seeds), as "mean ± deviation".

    Args:
        table: one row a run.
        keys: what distinguishes the rows of the result.
        columns: to be shown.
    """
    groups = table.groupby(list(keys), sort=False, dropna=False)[list(columns)]
    mean, deviation = groups.mean(), groups.std()

    def shown(name: str) -> list[str]:
        pairs = zip(mean[name], deviation[name], strict=True)
        return [_with_deviation(m, d) for m, d in pairs]

    index = [", ".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in mean.index]
    return pd.DataFrame({name: shown(name) for name in columns}, index=index)


def _with_deviation(mean: float, deviation: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.4g}" if pd.isna(deviation) else f"{mean:.4g} ± {deviation:.1g}"
