"""Many training runs for one experiment: alike ones side by side, each kept where it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ncjax import progress, runs, training
from ncjax.training import TrainConfig
from ncjax.training.members import VARIED

Configs = Mapping[tuple, TrainConfig]
"""Runs by what an experiment varies: the values of its `keys`, in order."""


def trained(configs: Configs, keys: Sequence[str], run: Path) -> pd.DataFrame:
    """Trains whatever is not yet trained; all measurements of all runs.

    Runs of an MLP that differ only in what an ensemble may differ in train as one
    (`ncjax.training.train_ensemble`); all others one after the other.

    Args:
        configs: the runs.
        keys: names of the columns that say which run a row is of.
        run: folder for a run folder a group.

    Returns:
        The rows of `metrics.jsonl` with the keys and `run`, the folder, and `member`.
    """
    groups = list(_groups(configs))
    tables = []
    for names in progress.bar(groups, desc="networks", unit=" groups"):
        members = [configs[name] for name in names]
        folder = run / "networks" / _slug(members)
        if len(members) > 1:
            table = training.train_ensemble(members, folder)
        else:
            table = training.train(members[0], folder).assign(member=0)
        labels = pd.DataFrame(names, columns=list(keys)).assign(run=str(folder))
        tables.append(
            labels.join(
                table.drop(columns=["seed", "loss_name"], errors="ignore").set_index("member"),
                how="right",
            ).reset_index(names="member")
        )
    return pd.concat(tables, ignore_index=True)


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
    """The last measurement of every run."""
    return table.sort_values("epoch").groupby(list(keys), sort=False).tail(1)


def spread(table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over what the keys leave free (seeds), as "mean ± deviation".

    Args:
        table: one row a run.
        keys: what distinguishes the rows of the result.
        columns: to be shown.
    """
    groups = table.groupby(list(keys), sort=False)[list(columns)]
    mean, deviation = groups.mean(), groups.std()

    def shown(name: str) -> list[str]:
        pairs = zip(mean[name], deviation[name], strict=True)
        return [f"{m:.3g}" if pd.isna(d) else f"{m:.3g} ± {d:.1g}" for m, d in pairs]

    return pd.DataFrame({name: shown(name) for name in columns}, index=mean.index)


def opened(run: Path, preset: object) -> Path:
    """The run folder of an experiment, ready for figures."""
    run = runs.open_run(run, {"preset": str(preset)})
    (run / "figures").mkdir(exist_ok=True)
    return run
