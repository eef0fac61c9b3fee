"""Training with convolutional normalisation and with other norms (2103.00673).

1. A plain CNN of ten convolutions, without skip connections: does it train?
2. A CNN on few images of each class, and on images of which 40 % have a wrong label.
3. A narrow ResNet-18.

    python -m experiments.convnorm_training --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from experiments import convnorm_networks
from experiments.convnorm_networks import CNN, DIGITS, NORMS, RESNET18, against
from experiments.networks import Configs, experiment, last
from experiments.tables import markdown
from ncjax import runs
from ncjax.data import Corruption
from ncjax.training import TrainConfig

KEYS = ("study", "norm", "seed")
PLAIN = ("none", "batch norm", "ConvNorm", "ConvNorm + BN")
CHANCE = {"accuracy": 0.1, "test_accuracy": 0.1}
"""Of ten classes: what a run whose loss is no longer finite counts as."""
SEEDS = {"smoke": 1, "cpu": 3, "accelerator": 5, "paper": 4}


def studies(preset: str) -> dict[str, TrainConfig]:
    """What is trained, by name."""
    if preset == "smoke":
        return {"few images": DIGITS}
    if preset == "paper":
        noisy = dataclasses.replace(RESNET18, corruption=Corruption("symmetric", 0.4))
        return {"ResNet-18": RESNET18, "wrong labels": noisy}
    base = CNN
    if preset == "accelerator":
        base = dataclasses.replace(CNN, corruption=Corruption(), width=64, epochs=60)
    found = {}
    for rate in (0.02, 0.1):
        found[f"ten convolutions, rate {rate:g}"] = dataclasses.replace(
            base, per_stage=5, learning_rate=rate, epochs=6
        )
    few = Corruption(per_class=30)
    found["few images"] = dataclasses.replace(base, corruption=few, epochs=60, batch_size=50)
    noise = dataclasses.replace(base.corruption, labels="symmetric_others", noise=0.4)
    found["wrong labels"] = dataclasses.replace(base, corruption=noise)
    width = 64 if preset == "accelerator" else 8
    found["ResNet-18"] = dataclasses.replace(base, network="resnet18", width=width, epochs=6)
    return found


def configs(preset: str) -> Configs:
    """All studies, norms and seeds."""
    found = {}
    for (study, base), norm in itertools.product(studies(preset).items(), NORMS):
        deep = study.startswith(("ten", "ResNet"))
        if (deep and norm not in PLAIN) or (preset == "smoke" and norm != "ConvNorm"):
            continue
        for seed in range(SEEDS[preset]):
            corruption = dataclasses.replace(base.corruption, seed=seed)
            changes = {"seed": seed, "corruption": corruption, **NORMS[norm]}
            found[study, norm, seed] = dataclasses.replace(base, **changes)
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/convnorm_training"),
) -> None:
    """Trains all, and writes tables and a figure.

    Args:
        preset: smoke takes seconds, cpu an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("accuracy", "test_accuracy")
    ends = experiment(
        "convnorm_training", configs(preset), KEYS, columns, run, draw, diverged=CHANCE
    )
    if SEEDS[preset] > 1:
        compared = markdown(against(ends, ["study"], columns).set_index("study"))
        runs.write_atomically(run / "standard_errors.md", compared + "\n")
        print(f"differences to batch norm, in standard errors:\n{compared}")


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Test accuracy of every norm, a panel a study."""
    ends = last(table, KEYS)
    panels = {
        study: ends["test_accuracy"].where(ends["study"] == study)
        for study in dict.fromkeys(ends["study"])
    }
    path = folder / "convnorm_training.png"
    convnorm_networks.draw(ends, panels, "test accuracy", path)


if __name__ == "__main__":
    tyro.cli(main)
