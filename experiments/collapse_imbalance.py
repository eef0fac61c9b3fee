"""Collapse with unequal classes: minority classifiers close up, and SELI.

An exponential long tail of Fashion-MNIST at several ratios of the largest to the smallest class.
Measured: the cosine between classifiers of the smaller half of the classes, and how far the Gram
matrices of W and of the class means are from a simplex ETF and from the SELI geometry of the class
sizes (`ufm.seli`).

    python -m experiments.collapse_imbalance --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import jax
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.drawing.networks import by_loss, over_seeds
from experiments.networks import DIGITS, RESNET18, SUBSET, Configs, experiment
from ncjax import frames, plots, ufm
from ncjax.plots import STYLE

KEYS = ("loss", "ratio", "seed")
BASES = {
    "smoke": DIGITS,
    "cpu": dataclasses.replace(SUBSET, epochs=200, measure_every=50),
    "accelerator": RESNET18,
    "paper": dataclasses.replace(RESNET18, dataset="cifar10", augment="crop_flip"),
}
RATIOS = {
    "smoke": (10.0,),
    "cpu": (1.0, 10.0, 100.0, 1000.0),
    "accelerator": (1.0, 10.0, 100.0, 1000.0),
    "paper": (1.0, 10.0, 100.0),
}
SEEDS = {"smoke": 1, "cpu": 2, "accelerator": 3, "paper": 1}
COLUMNS = {
    "minority_cosine": "cosine between minority classifiers",
    "w_to_seli": "W to SELI",
    "w_to_etf": "W to a simplex ETF",
    "means_to_seli": "class means to SELI",
}


def configs(preset: str) -> Configs:
    """Two losses, all ratios and seeds."""
    base = BASES[preset]
    return {
        (loss, ratio, seed): dataclasses.replace(
            base,
            loss=loss,
            corruption=dataclasses.replace(base.corruption, imbalance=ratio),
            seed=seed,
        )
        for loss, ratio, seed in itertools.product(
            ("cross_entropy", "mse"), RATIOS[preset], range(SEEDS[preset])
        )
    }


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_imbalance"),
) -> None:
    """Train all, and write a table and a figure.

    Args:
        preset: smoke takes seconds, cpu a quarter of an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = ("accuracy", "test_accuracy", "nc1_pinv", *COLUMNS)
    ends = experiment(
        "collapse_imbalance", configs(preset), KEYS, columns, run, lambda *_: None, geometry
    )
    draw(ends, run / "figures")


def geometry(ends: pd.DataFrame) -> pd.DataFrame:
    """Adds what W and the class means look like at the end of each run."""
    rows = []
    for row in ends.itertuples():
        with np.load(Path(row.run) / "collapse.npz") as arrays:
            many = arrays["W"].ndim == 3
            W, means, counts = (
                arrays[name][row.member] if many else arrays[name]
                for name in ("W", "means", "counts")
            )
        rows.append(measured(W - W.mean(0), means - means.mean(0), counts))
    return ends.join(pd.DataFrame(rows, index=ends.index))


def measured(W: np.ndarray, means: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Of one run; the smaller half of the classes is the minority."""
    K = len(W)
    small = np.argsort(counts)[: K // 2]
    unit = W[small] / np.linalg.norm(W[small], axis=1, keepdims=True)
    with jax.enable_x64(True):
        target = ufm.seli(counts.astype(float), False)
        gram, of_means = (x.astype(float) @ x.T.astype(float) for x in (W, means))
        return {
            "minority_cosine": float((unit @ unit.T)[np.triu_indices(len(small), 1)].mean()),
            "w_to_seli": float(frames.gram_distance(gram, target.classifier)),
            "w_to_etf": float(frames.distance_to_simplex_etf(gram)),
            "means_to_seli": float(frames.gram_distance(of_means, target.class_means)),
        }


def draw(ends: pd.DataFrame, folder: Path) -> None:
    """The four measures against the ratio."""
    curves = by_loss(ends)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 2.7), layout="constrained")
        for ax, (column, title) in zip(figure.subplots(1, 4), COLUMNS.items(), strict=True):
            over_seeds(ax, curves, "ratio", column, title)
            ax.set_xlabel("largest class / smallest")
        ax.legend()
        plots.save(figure, folder / "imbalance.png")


if __name__ == "__main__":
    tyro.cli(main)
