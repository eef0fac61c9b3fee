"""What the experiments with noisy labels share: methods, how they are tuned, and what is reported.

Every method trains the same network on the same images and labels for as many epochs. Its settings
are chosen from a small grid by accuracy on clean validation images after the last epoch, of a noise
and a seed that the table does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid

from experiments.networks import Configs, experiment, last, trained
from experiments.tables import kept, markdown
from ncjax import losses, plots, runs, training
from ncjax.data import Corruption
from ncjax.plots import COLORS, MARKERS, STYLE
from ncjax.training import TrainConfig

KEYS = ("noise", "method", "seed")
TUNED_WITH = 100
"""The seed of tuning."""
EVALUATORS = ("train", "test", "validation", "clean", "sop")
COLUMNS = {
    "test_accuracy": "last epoch",
    "stopped": "stopped by validation",
    "oracle": "best epoch (oracle)",
    "memorised": "memorised",
    "auc": "AUC",
    "nc1_pinv": "NC1, given labels",
    "clean_nc1_pinv": "NC1, true labels",
}
BASE = TrainConfig(
    corruption=Corruption(validation=10),
    widths=(512, 512),
    epochs=150,
    batch_size=64,
    learning_rate=0.02,
    weight_decay=5e-4,
    measure_every=5,
)
"""Digits."""
SMOKE = dataclasses.replace(
    BASE,
    corruption=Corruption(validation=5, per_class=50),
    widths=(64,),
    epochs=10,
    batch_size=50,
    learning_rate=0.05,
)
"""Seconds."""
Grid = Mapping[str, tuple[Mapping[str, Any], ...]]


def _of_loss(loss: str, name: str, values: tuple, **others: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"loss": loss, "hyperparameters": {name: v}, **others} for v in values)


def _of_sop(base: TrainConfig) -> tuple[dict[str, Any], ...]:
    """Multiples of the rates that batch size and epochs suggest."""
    rates = dataclasses.replace(base, method="sop").sop_rates
    return tuple(
        {"method": "sop", "sop": {"lr_u": rates.u * by_u, "lr_v": rates.v * by_v}}
        for by_u, by_v in ((1, 1), (1, 10), (10, 1), (10, 10), (10, 100), (100, 10), (100, 100))
    )


def grids(base: TrainConfig) -> Grid:
    """Settings of each method, as changes of a config."""
    rates = (base.learning_rate, 5 * base.learning_rate)
    decays = (base.weight_decay, 10 * base.weight_decay)
    of_elr = ParameterGrid({"weight": (3.0, 7.0, 15.0), "memory": (0.5, 0.7, 0.9)})
    return {
        "cross entropy": tuple(ParameterGrid({"learning_rate": rates, "weight_decay": decays})),
        "label smoothing": _of_loss("label_smoothing", "smoothing", (0.1, 0.3, 0.6)),
        "focal": _of_loss("focal", "gamma", (1.0, 3.0)),
        "MSE": tuple(
            one
            for rate in (base.learning_rate, base.learning_rate / 4)
            for one in _of_loss("mse", "target", (1.0, 5.0), learning_rate=rate)
        ),
        "GCE": _of_loss("generalized_cross_entropy", "power", (0.3, 0.7, 1.0)),
        "ELR": tuple({"method": "elr", "elr": one} for one in of_elr),
        "forward, true matrix": tuple(
            {"method": "forward", "learning_rate": rate} for rate in rates
        ),
        "SOP": _of_sop(base),
    }


def config_of(
    base: TrainConfig, changes: Mapping[str, Any], noise: tuple[str, float], seed: int
) -> TrainConfig:
    """A run's config.

    Args:
        base: what all runs share.
        changes: of a method.
        noise: kind and share of wrong labels.
        seed: of noise, weights and order.
    """
    kind, share = noise
    corruption = dataclasses.replace(base.corruption, labels=kind, noise=share, seed=seed)
    return dataclasses.replace(base, corruption=corruption, seed=seed, **changes)


def noise_name(noise: tuple[str, float]) -> str:
    """As "symmetric 40 %"."""
    return f"{noise[0].removesuffix('_others')} {noise[1]:.0%}".replace("%", " %")


def chosen(
    base: TrainConfig, grid: Grid, noise: tuple[str, float], run: Path
) -> dict[str, Mapping[str, Any]]:
    """The best settings of each method by validation after the last epoch."""
    base = dataclasses.replace(
        base, evaluators=("train", "test", "validation"), measure_every=base.epochs
    )
    configs = {
        (method, number): config_of(base, changes, noise, TUNED_WITH)
        for method, tried in grid.items()
        for number, changes in enumerate(tried)
    }
    runs.open_run(run, {str(key): dataclasses.asdict(one) for key, one in configs.items()})
    keys = ("method", "number")
    table = last(trained(configs, keys, run), keys)
    table["settings"] = [str(grid[row.method][row.number]) for row in table.itertuples()]
    shown = ["method", "settings", "validation_accuracy", "test_accuracy"]
    runs.write_atomically(run / "tuning.csv", table[shown].to_csv(index=False))
    best = table.sort_values("validation_accuracy", kind="stable").groupby("method").tail(1)
    numbers = best.set_index("method")["number"]
    found = {method: grid[method][numbers[method]] for method in grid}
    print(markdown(pd.DataFrame({"chosen": {name: str(one) for name, one in found.items()}})))
    return found


def compare(
    name: str,
    base: TrainConfig,
    noises: tuple[tuple[str, float], ...],
    tuned_at: tuple[str, float],
    seeds: int,
    run: Path,
    *,
    grid: Grid | None = None,
) -> pd.DataFrame:
    """Tunes all methods, trains them on all noises and seeds, and reports.

    Args:
        name: of the experiment.
        base: what all runs share.
        noises: of the table.
        tuned_at: the noise that settings are chosen at.
        seeds: of each.
        run: folder for everything.
        grid: settings to choose from; `grids` if None.
    """
    base = dataclasses.replace(base, evaluators=EVALUATORS)
    best = chosen(base, grids(base) if grid is None else grid, tuned_at, run / "tuning")
    best["SOP, default rates"] = {"method": "sop"}
    configs: Configs = {
        (noise_name(noise), method, seed): config_of(base, changes, noise, seed)
        for noise in noises
        for method, changes in best.items()
        for seed in range(seeds)
    }
    columns = [*COLUMNS.values(), "AUC of U + V"]

    def finish(ends: pd.DataFrame) -> pd.DataFrame:
        ends = ends.join(kept(run / "ends.csv", lambda: _ends(ends)))
        ends["AUC of U + V"] = ends.get("sop_auc", np.nan)
        return ends.rename(columns=COLUMNS)

    return experiment(name, configs, KEYS, columns, run, draw, finish)


def _ends(ends: pd.DataFrame) -> pd.DataFrame:
    """Accuracies at epochs that are chosen, and how well losses tell wrong labels from others."""
    return pd.DataFrame([_end(Path(row.run), int(row.member)) for row in ends.itertuples()])


def _end(run: Path, member: int) -> dict[str, float]:
    curve = runs.read_metrics(run)
    if "member" in curve:
        curve = curve[curve["member"] == member]
    best = curve["validation_accuracy"].to_numpy().argmax()
    network = training.load_run(run, member=member)
    images, labels = network.dataset.images, network.dataset.labels
    parts = np.array_split(np.arange(len(labels)), -(-len(labels) // 1000))
    params = network.variables["params"]
    values = [losses.cross_entropy(network.logits(params, images[p]), labels[p]) for p in parts]
    wrong = labels != network.dataset.clean_labels
    return {
        "stopped": curve["test_accuracy"].iloc[best],
        "oracle": curve["test_accuracy"].max(),
        "auc": roc_auc_score(wrong, np.concatenate(values)),
    }


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Accuracy, memorisation and both NC1 against the epoch at the first noise."""
    noise = table["noise"].iloc[0]
    here = table[table["noise"] == noise]
    panels = {
        "test_accuracy": "test accuracy",
        "memorised": "wrong labels predicted",
        "nc1_pinv": "NC1, given labels",
        "clean_nc1_pinv": "NC1, true labels",
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        axes = figure.subplots(1, len(panels))
        for ax, (column, title) in zip(axes, panels.items(), strict=True):
            _curves(ax, here, column)
            ax.set(title=title, xlabel="epoch", xscale="log")
            if "nc1" in column:
                ax.set_yscale("log")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=5)
        figure.suptitle(f"{noise} of the labels wrong", fontsize=9)
        plots.save(figure, folder / "noisy_labels.png")


def _curves(ax: Axes, table: pd.DataFrame, column: str) -> None:
    for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
        mean = rows.groupby("epoch")[column].mean()
        style = {"color": COLORS[number % 7], "linestyle": "-" if number < 7 else "--"}
        marks = {"marker": MARKERS[number % 7], "markersize": 3, "markevery": 3}
        ax.plot(mean.index, mean, label=method, linewidth=1.1, **style, **marks)
