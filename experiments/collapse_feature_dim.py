"""How many feature dimensions collapse needs: d around K - 1 (2203.01238).

A simplex ETF of K vectors fits from d = K - 1 on. MLPs with a last layer of d units, under cross
entropy and MSE.

    python -m experiments.collapse_feature_dim --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.drawing.networks import by_loss, over_seeds
from experiments.networks import DIGITS, NC, RESNET18, SUBSET, Configs, experiment, last
from ncjax import plots
from ncjax.plots import STYLE

KEYS = ("loss", "d", "seed")
BASES = {
    "smoke": DIGITS,
    "cpu": SUBSET,
    "accelerator": RESNET18,
    "paper": dataclasses.replace(RESNET18, dataset="cifar10", augment="crop_flip"),
}
DIMS = {
    "smoke": (5, 16),
    "cpu": (3, 5, 7, 8, 9, 10, 64),
    "accelerator": (5, 8, 9, 10, 512),
    "paper": (5, 8, 9, 10, 512),
}
SEEDS = {"smoke": 1, "cpu": 2, "accelerator": 3, "paper": 1}


def configs(preset: str) -> Configs:
    """Both losses, all dimensions and seeds."""
    found = {}
    base = BASES[preset]
    for loss, d, seed in itertools.product(
        ("cross_entropy", "mse"), DIMS[preset], range(SEEDS[preset])
    ):
        sizes = {"feature_dim": d}
        if base.network == "mlp":
            sizes = {"widths": (*base.widths[:-1], d)}
        found[loss, d, seed] = dataclasses.replace(base, loss=loss, seed=seed, **sizes)
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_feature_dim"),
) -> None:
    """Train all, and write a table and a figure.

    Args:
        preset: smoke takes seconds, cpu a quarter of an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("terminal_epoch", "accuracy", "test_accuracy", *NC)
    experiment("collapse_feature_dim", configs(preset), KEYS, columns, run, draw)


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Distance of class means to an ETF, NC1 and test accuracy at the end against d."""
    ends = last(table, KEYS)
    panels = {
        "nc2_means": "NC2, class means",
        "nc1_pinv": r"NC1, $\mathrm{tr}(\Sigma_W\Sigma_B^+)/K$",
        "test_accuracy": "test accuracy",
    }
    curves = by_loss(ends)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.7), layout="constrained")
        for ax, (column, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            over_seeds(ax, curves, "d", column, title)
            ax.set_xlabel("feature dimension d (K - 1 = 9)")
            if column == "nc1_pinv":
                ax.set_yscale("log")
        ax.legend()
        plots.save(figure, folder / "feature_dim.png")


if __name__ == "__main__":
    tyro.cli(main)
