"""Fashion-MNIST with wrong labels: SOP beside other methods (2202.14026), and what collapses.

An MLP of two hidden layers on some images of each class; 20 to 80 % of the labels turned into
others at random, or 40 % of each class into the next one. Preset paper: ResNet-34 on CIFAR-10 with
the settings of the paper as third parties report them, for an accelerator of one's own.

    python -m experiments.sop_fashion --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from experiments import networks, noisy_labels
from ncjax.data import Corruption

SHARES = (0.4, 0.2, 0.6, 0.8)
NOISES = (*(("symmetric_others", share) for share in SHARES), ("asymmetric", 0.4))
RESNET18 = dataclasses.replace(
    networks.RESNET18,
    corruption=Corruption(validation=100),
    augment="crop_flip",
    epochs=120,
    learning_rate=0.02,
    drops=(1 / 3, 2 / 3),
    measure_every=5,
)
BASES = {
    "smoke": dataclasses.replace(noisy_labels.SMOKE, dataset="fashion_mnist"),
    "cpu": dataclasses.replace(
        noisy_labels.BASE,
        dataset="fashion_mnist",
        corruption=Corruption(validation=100, per_class=500),
        widths=(256, 256),
        epochs=80,
        batch_size=128,
    ),
    "accelerator": RESNET18,
    "paper": dataclasses.replace(RESNET18, dataset="cifar10", network="resnet34", dtype="float32"),
}
SEEDS = {"smoke": 1, "cpu": 3, "accelerator": 3, "paper": 3}


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/sop_fashion"),
) -> None:
    """Tunes and trains all, and writes a table and a figure.

    Args:
        preset: smoke takes a minute, cpu an hour or two.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    noises = NOISES[:1] if preset == "smoke" else NOISES
    noisy_labels.compare("sop_fashion", BASES[preset], noises, NOISES[0], SEEDS[preset], run)


if __name__ == "__main__":
    tyro.cli(main)
