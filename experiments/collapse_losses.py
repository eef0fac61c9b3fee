"""Whether all losses are equal when networks are large and trained long (2210.02192).

Cross entropy, label smoothing, focal (gamma 3) and MSE (target 15) over widths and lengths of
training: test accuracy, its largest difference between losses, and how alike the features of two
losses are (linear CKA, 1905.00414).

    python -m experiments.collapse_losses --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.networks import DIGITS, PAPER_C, RESNET18, SUBSET, Configs, experiment, last
from experiments.similarity import compared
from experiments.tables import markdown
from ncjax import plots, runs, training
from ncjax.plots import LOSS_NAMES, STYLE

KEYS = ("width", "epochs", "loss", "seed")
SETTINGS = {
    "cross_entropy": {},
    "label_smoothing": {"smoothing": 0.1},
    "focal": {"gamma": 3.0},
    "mse": {"scale": 1.0, "target": 15.0},
}
RATES = {"mse": 0.1}
"""Learning rates of losses over those of the rest: MSE's gradient is 15 times as large."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is varied.

    Attributes:
        base: of all runs.
        vary: the field that the width is, with its values.
        epochs: lengths of training.
        seeds: runs of each.
    """

    base: training.TrainConfig
    vary: tuple[str, tuple]
    epochs: tuple[int, ...]
    seeds: int


PRESETS = {
    "smoke": Sweep(DIGITS, ("widths", ((16, 16),)), (3,), 2),
    "cpu": Sweep(
        dataclasses.replace(SUBSET, learning_rate=0.05, weight_decay=5e-4),
        ("widths", tuple((width, width) for width in (16, 64, 256))),
        (5, 20, 80),
        3,
    ),
    "accelerator": Sweep(
        dataclasses.replace(
            RESNET18, corruption=SUBSET.corruption, batch_size=256, learning_rate=0.1
        ),
        ("width", (4, 16, 64)),
        (5, 20, 80),
        3,
    ),
    "paper": Sweep(PAPER_C, ("inner", (0.25, 0.5, 1.0, 2.0)), (100, 200, 400, 800), 3),
}


def configs(preset: str) -> Configs:
    """All widths, lengths, losses and seeds."""
    sweep = PRESETS[preset]
    name, values = sweep.vary
    found = {}
    for value, epochs, loss, seed in itertools.product(
        values, sweep.epochs, SETTINGS, range(sweep.seeds)
    ):
        width = value[0] if isinstance(value, tuple) else value
        found[width, epochs, loss, seed] = dataclasses.replace(
            sweep.base,
            **{name: value},
            epochs=epochs,
            measure_every=epochs,
            loss=loss,
            hyperparameters=SETTINGS[loss],
            learning_rate=sweep.base.learning_rate * RATES.get(loss, 1.0),
            seed=seed,
        )
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_losses"),
) -> None:
    """Train all, compare features, and write tables and heat maps.

    Args:
        preset: smoke takes seconds, cpu minutes, accelerator a quarter of an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("accuracy", "test_accuracy", "nc1_pinv", "nc2_means", "nc3_self_duality")
    ends = experiment("collapse_losses", configs(preset), KEYS, columns, run, draw)
    similarity = compared(ends, ["width", "epochs"])
    runs.write_atomically(run / "similarity.csv", similarity.to_csv(index=False))
    print(markdown(similarity.set_index(["width", "epochs"]).sort_index()))


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Test accuracy of each loss, and the largest difference, over width and length."""
    ends = last(table, KEYS)
    mean = ends.groupby(["loss", "epochs", "width"])["test_accuracy"].mean()
    maps = {LOSS_NAMES[loss]: mean[loss].unstack("width") for loss in SETTINGS}
    stacked = np.stack(list(maps.values()))
    difference = pd.DataFrame(
        stacked.max(0) - stacked.min(0),
        index=maps["MSE"].index,
        columns=maps["MSE"].columns,
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 2.6), layout="constrained")
        axes = figure.subplots(1, len(maps) + 1, sharey=True)
        limits = {"vmin": stacked.min(), "vmax": stacked.max()}
        for ax, (title, values) in zip(axes[:-1], maps.items(), strict=True):
            _heat(ax, values, f"{title}", **limits)
        _heat(axes[-1], difference, "largest difference", vmin=0)
        axes[0].set_ylabel("epochs")
        plots.save(figure, folder / "losses.png")


def _heat(ax: mpl.axes.Axes, values: pd.DataFrame, title: str, **limits: float) -> None:
    image = ax.imshow(values, cmap="cividis", aspect="auto", origin="lower", **limits)
    middle = (image.norm.vmin + image.norm.vmax) / 2
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        color = "white" if value < middle else "black"
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(values.shape[1]), values.columns)
    ax.set_yticks(range(values.shape[0]), values.index)
    ax.set(title=title, xlabel="width")


if __name__ == "__main__":
    tyro.cli(main)
