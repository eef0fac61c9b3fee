"""Robustness to attacks of networks with several norms, after free training (2103.00673).

A CNN trained by "free" adversarial training, then attacked by FGSM and by PGD of 20 steps, all
within 8/255.

    python -m experiments.convnorm_robustness --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from experiments import convnorm_networks
from experiments.convnorm_networks import CNN, DIGITS, NORMS, RESNET18, against
from experiments.networks import Configs, experiment
from experiments.tables import kept, markdown
from ncjax import attacks, losses, progress, runs, training
from ncjax.data import Corruption
from ncjax.training.methods import FreeConfig

KEYS = ("norm", "seed")
FREE = FreeConfig(replays=4, epsilon=8 / 255)
BASES = {
    "smoke": dataclasses.replace(DIGITS, free=FREE),
    "cpu": dataclasses.replace(CNN, epochs=4, batch_size=50, free=FREE),
    "accelerator": dataclasses.replace(
        CNN, corruption=Corruption(), width=64, epochs=15, batch_size=128, free=FREE
    ),
    "paper": dataclasses.replace(
        RESNET18, augment="none", epochs=30, drops=(1 / 3, 2 / 3), free=FREE
    ),
}
SEEDS = {"smoke": 1, "cpu": 3, "accelerator": 5, "paper": 4}
TESTED = {"smoke": 100, "cpu": 1000, "accelerator": 10_000, "paper": 10_000}
COLUMNS = ("test_accuracy", "FGSM", "PGD-20")


def configs(preset: str) -> Configs:
    """All norms and seeds."""
    norms = ("ConvNorm",) if preset == "smoke" else tuple(NORMS)[1:]
    return {
        (norm, seed): dataclasses.replace(BASES[preset], seed=seed, **NORMS[norm])
        for norm in norms
        for seed in range(SEEDS[preset])
    }


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/convnorm_robustness"),
) -> None:
    """Trains and attacks all, and writes tables and a figure.

    Args:
        preset: smoke takes seconds, cpu an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    finish = functools.partial(attacked, run=run, tested=TESTED[preset])
    ends = experiment(
        "convnorm_robustness", configs(preset), KEYS, COLUMNS, run, lambda *_: None, finish
    )
    panels = {
        title: ends[column] for title, column in zip(("clean", *COLUMNS[1:]), COLUMNS, strict=True)
    }
    path = run / "figures" / "convnorm_robustness.png"
    convnorm_networks.draw(ends, panels, "test accuracy", path)
    if SEEDS[preset] > 1:
        off = against(ends.assign(study="free"), ["study"], COLUMNS)
        compared = markdown(off.set_index("norm"))
        runs.write_atomically(run / "standard_errors.md", compared + "\n")
        print(f"differences to batch norm, in standard errors:\n{compared}")


def attacked(ends: pd.DataFrame, run: Path, tested: int) -> pd.DataFrame:
    """With accuracies under attack, each kept as soon as it is known."""
    rows = []
    for row in progress.bar(list(ends.itertuples()), desc="attacked", unit=" runs"):
        path = run / "attacks" / f"{row.norm}-{row.seed}.csv"
        rows.append(kept(path, functools.partial(_attacked, Path(row.run), tested)))
    return ends.join(pd.concat(rows, ignore_index=True))


def _attacked(run: Path, tested: int) -> pd.DataFrame:
    network = training.load_run(run)
    dataset, params = network.dataset, network.variables["params"]
    rest = {name: part for name, part in network.variables.items() if name != "params"}

    def logits(x):
        variables = {"params": params, **rest}
        return network.model.apply(variables, dataset.standardised(x), train=False)[0]

    x = dataset.unit(dataset.test_images[:tested])
    measure = functools.partial(
        attacks.robust_accuracy, logits, losses.cross_entropy, x, dataset.test_labels[:tested]
    )
    return pd.DataFrame([{"FGSM": measure(attacks.fgsm()), "PGD-20": measure(attacks.PGD)}])


if __name__ == "__main__":
    tyro.cli(main)
