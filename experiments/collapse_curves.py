"""Collapse against the epoch, for three optimizers and four losses (2105.02375, figure 3).

An MLP on all of Fashion-MNIST and one on 1,000 images a class, with decay on all parameters, and a
small CNN on 200, with decay on features, W and b, far past zero error: SGD under four losses, Adam
and L-BFGS under cross entropy. Then how alike the features of two losses are.

    python -m experiments.collapse_curves --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from experiments.drawing.networks import by_loss
from experiments.networks import (
    CNN,
    DIGITS,
    MLP,
    NC,
    PAPER_A,
    RESNET18,
    SUBSET,
    Configs,
    experiment,
)
from experiments.similarity import compared
from experiments.tables import markdown
from ncjax import plots, runs
from ncjax.plots import LOSS_NAMES

KEYS = ("network", "optimizer", "loss", "seed")
BASES = {
    "smoke": {"mlp": DIGITS},
    "cpu": {
        "mlp": MLP,
        "mlp_subset": dataclasses.replace(SUBSET, epochs=480),
        "cnn": dataclasses.replace(
            CNN,
            epochs=250,
            learning_rate=0.05,
            decay="features",
            weight_decay=1e-2,
            feature_decay=5e-5,
        ),
    },
    "accelerator": {"resnet18": RESNET18},
    "paper": {
        "mnist": dataclasses.replace(PAPER_A, dataset="mnist"),
        "cifar10": PAPER_A,
    },
}
LBFGS_BATCH = {"smoke": 240, "cpu": 1000, "accelerator": 1024, "paper": 2048}
SEEDS = {"smoke": 1, "cpu": 1, "accelerator": 3, "paper": 1}
MSE = {"epochs": 400, "weight_decay": 3e-3, "feature_decay": 1.5e-5}
"""Of the CNN, which at the decay of the other losses gives up five of 2,000 images under MSE."""
OPTIMIZERS = {
    "sgd": {},
    "adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "lbfgs": {"optimizer": "lbfgs"},
}
TITLES = {"sgd": "SGD", "adam": "Adam", "lbfgs": "L-BFGS"}


def configs(preset: str) -> Configs:
    """Every optimizer under cross entropy, and SGD under every loss.

    L-BFGS, which looks at each batch several times, has a quarter of the epochs.
    """
    found = {}
    for network, base in BASES[preset].items():
        for seed in range(SEEDS[preset]):
            for name, changes in OPTIMIZERS.items():
                if (preset, network) == ("cpu", "mlp") and name != "sgd":
                    continue  # the subset shows the others
                config = dataclasses.replace(base, seed=seed, **changes)
                if name == "lbfgs":
                    sizes = {"batch_size": LBFGS_BATCH[preset], "epochs": -(-base.epochs // 4)}
                    config = dataclasses.replace(config, **sizes)
                if preset == "cpu" and name != "sgd" and base.decay == "all":
                    config = dataclasses.replace(config, weight_decay=2e-3)
                found[network, name, "cross_entropy", seed] = config
            for loss in LOSS_NAMES:
                config = dataclasses.replace(base, seed=seed, loss=loss)
                if preset == "cpu" and loss == "mse" and base.decay == "features":
                    config = dataclasses.replace(config, **MSE)
                found[network, "sgd", loss, seed] = config
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_curves"),
) -> None:
    """Train all, and write a table and the curves.

    Args:
        preset: smoke takes seconds, cpu an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("terminal_epoch", "accuracy", "test_accuracy", "nc1_fall", *NC)
    ends = experiment("collapse_curves", configs(preset), KEYS, columns, run, draw)
    similarity = compared(ends[ends["optimizer"] == "sgd"], ["network"])
    runs.write_atomically(run / "similarity.csv", similarity.to_csv(index=False))
    print(markdown(similarity.set_index("network")))


def draw(table: pd.DataFrame, folder: Path) -> None:
    """NC1 to NC4, a figure of losses and one of optimizers for each network, first seeds."""
    first = table[table["seed"] == 0]
    for network, rows in first.groupby("network", sort=False):
        plots.collapse_curves(
            by_loss(rows[rows["optimizer"] == "sgd"]), folder / f"{network}_losses.png"
        )
        entropy = dict(iter(rows[rows["loss"] == "cross_entropy"].groupby("optimizer")))
        if len(entropy) > 1:
            curves = {title: entropy[name] for name, title in TITLES.items()}
            plots.collapse_curves(curves, folder / f"{network}_optimizers.png")


if __name__ == "__main__":
    tyro.cli(main)
