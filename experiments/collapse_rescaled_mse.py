"""Whether rescaling MSE helps a network, as it helps the landscape (2203.01238).

Scale and target of the true class, one at a time; the learning rate falls with the curvature that
the loss has in the logits, scale, and with the size of its gradient, target.

    python -m experiments.collapse_rescaled_mse --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from experiments.networks import DIGITS, NC, RESNET18, SUBSET, Configs, experiment
from ncjax import plots

KEYS = ("scale", "target", "rate", "seed")
PAIRS = ((1, 1), (5, 1), (15, 1), (1, 5), (1, 15))
BASES = {
    "smoke": DIGITS,
    "cpu": dataclasses.replace(SUBSET, epochs=80, weight_decay=5e-3),
    "accelerator": RESNET18,
    "paper": dataclasses.replace(RESNET18, dataset="cifar100", augment="crop_flip"),
}
RATES = {
    "smoke": (0.05,),
    "cpu": (0.02, 0.008, 0.003),
    "accelerator": (0.05, 0.01),
    "paper": (0.05, 0.01),
}
"""Learning rates at scale and target 1; a pair is worth what it reaches at the best of them."""
SEEDS = {"smoke": 1, "cpu": 2, "accelerator": 3, "paper": 1}


def configs(preset: str) -> Configs:
    """All pairs, rates and seeds."""
    return {
        (scale, target, rate, seed): dataclasses.replace(
            BASES[preset],
            loss="mse",
            hyperparameters={"scale": float(scale), "target": float(target)},
            learning_rate=rate / max(scale, target),
            seed=seed,
        )
        for scale, target in PAIRS
        for rate in RATES[preset]
        for seed in range(SEEDS[preset])
    }


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_rescaled_mse"),
) -> None:
    """Train all, and write a table and the curves.

    Args:
        preset: smoke takes seconds, cpu a quarter of an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("terminal_epoch", "accuracy", "test_accuracy", "cosine_margin", *NC)
    experiment("collapse_rescaled_mse", configs(preset), KEYS, columns, run, draw)


def draw(table: pd.DataFrame, folder: Path) -> None:
    """NC1 to NC4 against the epoch, first seeds, the best rate of each pair."""
    first = table[table["seed"] == 0]
    ends = first[first["epoch"] == first["epoch"].max()]
    best = ends.loc[ends.groupby(["scale", "target"], sort=False)["test_accuracy"].idxmax()]
    curves = {}
    for row in best.itertuples():
        chosen = first[["scale", "target", "rate"]] == [row.scale, row.target, row.rate]
        curves[f"scale {row.scale}, target {row.target}"] = first[chosen.all(axis=1)]
    plots.collapse_curves(curves, folder / "rescaled_mse.png")


if __name__ == "__main__":
    tyro.cli(main)
