"""ReduNet on vectors: does construction help, and against what (2105.10446)?

Gaussians on the sphere, iris, digits and Fashion-MNIST. Precision and step of ReduNet, and every
setting of the classical classifiers, are chosen on validation samples; the classical ones see the
raw samples at unit length. The first layer alone is already a classifier: its assignment is that of
subspaces, softened by the precision.

    python -m experiments.redunet_vector --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tyro
from sklearn.model_selection import ParameterGrid

from experiments.drawing import redunet as drawing
from experiments.networks import spread
from experiments.splits import Split, classical, on_all, split, unit
from experiments.tables import markdown
from ncjax import runs
from ncjax.redunet import ReduNet

OFFICIAL = {"eps": 0.1**0.5, "step": 0.5}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        datasets: by name: training samples of each class, test samples at most, layers.
        eps: precisions to choose from.
        steps: to choose from.
        seeds: splits.
    """

    datasets: dict[str, tuple[int, int, int]] = dataclasses.field(
        default_factory=lambda: {
            "gaussians": (500, 2000, 200),
            "iris": (25, 2000, 500),
            "digits": (80, 2000, 50),
            "fashion_mnist": (200, 2000, 20),
        }
    )
    eps: tuple[float, ...] = (0.1**0.5, 1.0, 2.0)
    steps: tuple[float, ...] = (0.1, 0.5)
    seeds: int = 5


PRESETS = {
    "smoke": Config(
        {"gaussians": (20, 100, 5), "digits": (20, 100, 3)}, (0.1**0.5, 1.0), (0.5,), 2
    ),
    "cpu": Config(),
    "accelerator": Config({"digits": (80, 2000, 50), "fashion_mnist": (1000, 10_000, 50)}, seeds=5),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/redunet_vector")
) -> None:
    """Builds all, and writes tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    table = on_all(
        run, config.datasets, config.seeds, lambda name, seed: compared(name, seed, config)
    )
    shown = table.pivot_table("accuracy", ["data", "seed"], "method", sort=False).reset_index()
    methods = list(dict.fromkeys(table["method"]))
    summary = markdown(spread(shown, ["data"], methods))
    runs.write_atomically(run / "redunet_vector.md", summary + "\n")
    figures = run / "figures"
    figures.mkdir(exist_ok=True)
    traces = {name: trace(name, config) for name in config.datasets}
    drawing.layers(traces, figures / "redunet_layers.png")
    drawing.similarities(traces, figures / "redunet_cosines.png")
    print(summary)
    print(f"written: {run}")


def compared(name: str, seed: int, config: Config) -> pd.DataFrame:
    """Test accuracy of every method on a split."""
    per_class, tested, num_layers = config.datasets[name]
    parts = split(name, seed, per_class, tested).map(unit)
    found = {f"raw, {head}": pair for head, pair in classical(parts).items()}
    candidates: dict[str, list[tuple[float, float]]] = {}
    for settings in ParameterGrid({"eps": config.eps, "step": config.steps}):
        scores = _scores(parts, ReduNet(num_layers, **settings))
        if settings == OFFICIAL:
            found["ReduNet, official settings"] = scores["network"]
        for method, pair in scores.items():
            candidates.setdefault(method, []).append(pair)
    best = {
        f"ReduNet, {method}": max(pairs, key=lambda pair: pair[0])
        for method, pairs in candidates.items()
    }
    rows = [
        {"data": name, "seed": seed, "method": method, "validation": pair[0], "accuracy": pair[1]}
        for method, pair in (found | best).items()
    ]
    return pd.DataFrame(rows)


def _scores(parts: Split, net: ReduNet) -> dict[str, tuple[float, float]]:
    """Validation and test accuracy, by the network's first and last layer, and by subspaces."""
    net.fit(*parts.train)
    by_layer = [(net.staged_predict(x) == y).mean(1) for x, y in (parts.validation, parts.test)]
    features = parts.map(lambda x: unit(net.transform(x)))
    return {
        "first layer": tuple(float(one[0]) for one in by_layer),
        "network": tuple(float(one[-1]) for one in by_layer),
        "subspace": classical(features, ["subspace"])["subspace"],
    }


def trace(name: str, config: Config) -> dict[str, np.ndarray]:
    """Rates and accuracy by layer, and cosines of samples before and behind; official settings."""
    per_class, tested, num_layers = config.datasets[name]
    parts = split(name, 0, per_class, tested).map(unit)
    net = ReduNet(num_layers, **OFFICIAL).fit(*parts.train)
    x, y = parts.test
    some = np.concatenate([np.flatnonzero(y == k)[:20] for k in np.unique(y)])
    return {
        "reduction": net.monitor_.reduction,
        "class_rate": np.asarray(net.monitor_.class_rate),
        "accuracy": (net.staged_predict(x) == y).mean(1),
        "raw": classical(parts, ["subspace"])["subspace"][1],
        "before": np.abs(x[some] @ x[some].T),
        "after": _cosines(net.transform(x[some])),
        "labels": y[some],
    }


def _cosines(features: np.ndarray) -> np.ndarray:
    features = unit(features)
    return np.abs(features @ features.T)


if __name__ == "__main__":
    tyro.cli(main)
