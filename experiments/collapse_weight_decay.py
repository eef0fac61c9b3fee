"""Decay on all parameters against decay on features, W and b (2105.02375).

The unconstrained feature model decays the features where practice decays the parameters before
them. Both are trained, the second with lambda_H / 2 ||H||^2 over all training features, at several
strengths.

    python -m experiments.collapse_weight_decay --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from experiments.networks import DIGITS, NC, PAPER_A, RESNET18, SUBSET, Configs, experiment
from ncjax import plots

KEYS = ("decay", "seed")
BASES = {
    "smoke": DIGITS,
    "cpu": dataclasses.replace(SUBSET, learning_rate=0.02, weight_decay=5e-3),
    "accelerator": RESNET18,
    "paper": dataclasses.replace(PAPER_A, batch_size=64),
}
SEEDS = {"smoke": 1, "cpu": 2, "accelerator": 3, "paper": 1}
FEATURE_DECAYS = (1e-7, 1e-6, 1e-5)


def configs(preset: str) -> Configs:
    """One kind of decay on all parameters, and several on the features."""
    found = {}
    for seed in range(SEEDS[preset]):
        base = dataclasses.replace(BASES[preset], seed=seed)
        found["all parameters", seed] = base
        for decay in FEATURE_DECAYS:
            config = dataclasses.replace(base, decay="features", feature_decay=decay)
            found[f"features, {decay:g}", seed] = config
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_weight_decay"),
) -> None:
    """Train all, and write a table and the curves.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("terminal_epoch", "accuracy", "test_accuracy", *NC)
    experiment("collapse_weight_decay", configs(preset), KEYS, columns, run, draw)


def draw(table: pd.DataFrame, folder: Path) -> None:
    """NC1 to NC4 against the epoch, first seeds."""
    first = table[table["seed"] == 0].groupby("decay", sort=False)
    plots.collapse_curves({str(name): rows for name, rows in first}, folder / "weight_decay.png")


if __name__ == "__main__":
    tyro.cli(main)
