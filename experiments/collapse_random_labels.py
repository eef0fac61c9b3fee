"""Do networks that fit random labels collapse all the same?

An experiment of the code of 2105.02375. MLPs of several widths on images with their own labels and
with a permutation of them, which keeps the classes balanced. What the labels mean plays no part in
the unconstrained feature model: where a network is wide enough to be one, it must collapse on
either.

    python -m experiments.collapse_random_labels --preset cpu
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

from experiments.drawing.networks import over_seeds
from experiments.networks import DIGITS, MLP, NC, RESNET18, SUBSET, Configs, experiment, last
from ncjax import plots
from ncjax.data import Corruption
from ncjax.plots import STYLE

KEYS = ("labels", "width", "seed")
BASES = {
    "smoke": DIGITS,
    "cpu": dataclasses.replace(SUBSET, epochs=300, measure_every=50),
    "accelerator": dataclasses.replace(MLP, epochs=600, weight_decay=1e-4),
    "paper": dataclasses.replace(
        RESNET18, dataset="cifar10", learning_rate=0.01, batch_size=64, weight_decay=1e-4
    ),
}
PER_CLASS = {"smoke": 20, "cpu": 500, "accelerator": None, "paper": None}
WIDTHS = {
    "smoke": (4, 32),
    "cpu": (4, 8, 16, 64, 256),
    "accelerator": (8, 32, 128, 512, 2048),
    "paper": (4, 8, 16, 32, 64),
}
SEEDS = {"smoke": 2, "cpu": 3, "accelerator": 3, "paper": 1}


def configs(preset: str) -> Configs:
    """Both kinds of labels, all widths and seeds."""
    found = {}
    for labels, width, seed in itertools.product(
        ("clean", "random"), WIDTHS[preset], range(SEEDS[preset])
    ):
        base = BASES[preset]
        sizes = (
            {"widths": (width,) * len(base.widths)} if base.network == "mlp" else {"width": width}
        )
        found[labels, width, seed] = dataclasses.replace(
            base, corruption=Corruption(labels, per_class=PER_CLASS[preset]), seed=seed, **sizes
        )
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_random_labels"),
) -> None:
    """Train all, and write a table and a figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("accuracy", "test_accuracy", *NC)
    experiment("collapse_random_labels", configs(preset), KEYS, columns, run, draw)


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Training accuracy, NC1 and NC2 at the end against the width."""
    ends = last(table, KEYS)
    panels = {
        "accuracy": "training accuracy",
        "nc1_pinv": r"NC1, $\mathrm{tr}(\Sigma_W\Sigma_B^+)/K$",
        "nc2_means": "NC2, class means",
    }
    curves = {f"{labels} labels": rows for labels, rows in ends.groupby("labels")}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.7), layout="constrained")
        for ax, (column, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            over_seeds(ax, curves, "width", column, title)
            ax.set_xlabel("width")
            if column != "accuracy":
                ax.set_yscale("log")
        ax.legend()
        plots.save(figure, folder / "random_labels.png")


if __name__ == "__main__":
    tyro.cli(main)
