"""Five tasks of two classes: incremental ReduNet against training that forgets (2011.14593).

Fashion-MNIST (all of it, averaged to 14 x 14 pixels) and digits. Each method sees the training
samples of one task at a time, besides what it keeps:

* ReduNet from class covariances, which is that of joint construction; what it keeps is measured;
* a nearest subspace of each class on raw samples, which forgets nothing either;
* an MLP that is fine-tuned on each task; with elastic weight consolidation; and with experience
  replay of as many bytes of samples (uint8) as ReduNet keeps. As many steps for each.

Learning rates, EWC's strength, ReduNet's precision and the dimension of subspaces are chosen on
validation samples after the last task, with the first seed. How far the plain network, built with
soft assignments from all samples together, is from the one built from covariances is measured too.

    python -m experiments.redunet_incremental --preset cpu
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from sklearn.model_selection import ParameterGrid

from experiments.continual import Learner, Settings
from experiments.drawing.redunet import TITLES, over_tasks
from experiments.networks import spread
from experiments.splits import Split, split, unit
from experiments.tables import kept, markdown
from ncjax import progress, runs
from ncjax.plots import STYLE, save
from ncjax.redunet import NearestSubspace, ReduNet
from ncjax.redunet.operators import Operators

TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        datasets: by name: training samples of each class, test samples at most.
        num_layers: of ReduNet.
        eps: its precisions to choose from.
        steps: of Adam, a task.
        rates: learning rates to choose from.
        strengths: of EWC, to choose from.
        seeds: splits and starts.
    """

    datasets: dict[str, tuple[int, int]] = dataclasses.field(
        default_factory=lambda: {"digits": (80, 2000), "fashion_mnist": (4000, 10_000)}
    )
    num_layers: int = 10
    eps: tuple[float, ...] = (0.1**0.5, 1.0, 2.0, 4.0)
    steps: int = 1000
    rates: tuple[float, ...] = (1e-5, 3e-5, 1e-4, 1e-3, 1e-2)
    strengths: tuple[float, ...] = (1e3, 1e4, 1e5, 1e6)
    seeds: int = 3


PRESETS = {
    "smoke": Config({"digits": (20, 100)}, 2, (1.0,), 20, (1e-3,), (1e1,), 2),
    "cpu": Config(),
    "accelerator": Config(num_layers=50, steps=10_000, seeds=5),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/redunet_incremental"),
) -> None:
    """Learns the tasks with every method, and writes tables and the figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    tables, plain = [], []
    for name in progress.bar(list(config.datasets), desc="data sets"):
        first = _prepared(name, 0, config)
        chosen = kept(run / f"chosen-{name}.csv", lambda first=first: choose(first, config))
        settings = chosen.set_index("method")
        for seed in range(config.seeds):
            parts = first if seed == 0 else _prepared(name, seed, config)
            table = kept(
                run / "splits" / f"{name}-{seed}.csv",
                lambda parts=parts, s=seed, c=settings: learned(parts, s, c, config),
            )
            tables.append(table.assign(data=name, seed=seed))
        plain.append(
            kept(
                run / f"plain-{name}.csv",
                lambda parts=first, c=settings: differences(parts, c, config),
            ).assign(data=name)
        )
    table = pd.concat(tables, ignore_index=True)
    ends = table[table["task"] == len(TASKS)]
    summary = markdown(spread(ends, ["data", "method"], ["accuracy", "forgetting", "kept_kB"]))
    apart = pd.concat(plain).set_index("data")
    runs.write_atomically(run / "redunet_incremental.md", f"{summary}\n\n{markdown(apart)}\n")
    (run / "figures").mkdir(exist_ok=True)
    draw(table, run / "figures" / "redunet_incremental.png")
    print(summary)
    print(markdown(apart))
    print(f"written: {run}")


def _prepared(name: str, seed: int, config: Config) -> Split:
    """Samples as vectors of unit length; large images averaged over squares of four pixels."""
    parts = split(name, seed, *config.datasets[name])

    def smaller(x: np.ndarray) -> np.ndarray:
        if x.shape[1:] == (28, 28):
            x = x.reshape(-1, 14, 2, 14, 2).mean((2, 4))
        return unit(x).astype(np.float32)

    return parts.map(smaller)


def methods(parts: Split, seed: int, config: Config) -> dict[str, Callable[[dict], Any]]:
    """How each method is made from its settings."""
    d = parts.train[0].shape[1]
    memory = len(np.unique(parts.train[1])) * (d * d + 1) * 4  # what ReduNet keeps, bytes

    def mlp(**changes: Any) -> Callable[[dict], Learner]:
        return lambda s: Learner(
            Settings(d, 10, config.steps, s["rate"], s.get("strength", 0.0), **changes), seed
        )

    return {
        "ReduNet, incremental": lambda s: Incremental(config.num_layers, s["eps"]),
        "raw nearest subspace": lambda s: Subspaces(int(s["dim"])),
        "MLP, fine-tuned": mlp(),
        "MLP, EWC": mlp(),
        "MLP, replay of as many bytes": mlp(replayed=memory // d),
    }


def choose(parts: Split, config: Config) -> pd.DataFrame:
    """The settings of each method that are best on validation samples after the last task."""
    rates = {"rate": config.rates}
    grids = {
        "ReduNet, incremental": {"eps": config.eps},
        "raw nearest subspace": {"dim": (2, 5, 10, 20, 40)},
        "MLP, fine-tuned": rates,
        "MLP, EWC": rates | {"strength": config.strengths},
        "MLP, replay of as many bytes": rates,
    }
    made, rows = methods(parts, 0, config), []
    for method, settings_of in grids.items():
        grid, scores = list(ParameterGrid(settings_of)), []
        for settings in grid:
            learner = made[method](settings)
            for task in TASKS:
                learner.learn(*_of(parts.train, task))
            scores.append(learner.score(*parts.validation))
        rows.append({"method": method, **grid[int(np.argmax(scores))], "validation": max(scores)})
    return pd.DataFrame(rows)


def learned(parts: Split, seed: int, chosen: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Accuracy on all classes seen, after each task, and forgetting: of what was once known."""
    rows = []
    for method, make in methods(parts, seed, config).items():
        learner, by_task = make(chosen.loc[method].dropna().to_dict()), []
        for number, task in enumerate(TASKS, 1):
            learner.learn(*_of(parts.train, task))
            seen = [learner.score(*_of(parts.test, one)) for one in TASKS[:number]]
            by_task.append(seen)
            known = [max(past[i] for past in by_task if i < len(past)) for i in range(number)]
            lost = np.mean(np.subtract(known, seen)[: number - 1]) if number > 1 else 0.0
            row = {"method": method, "task": number, "forgetting": lost}
            classes = sum(TASKS[:number], ())
            accuracy = learner.score(*_of(parts.test, classes))
            rows.append(row | {"accuracy": accuracy, "kept_kB": learner.kept_bytes() / 1e3})
    return pd.DataFrame(rows)


def _of(samples: tuple[np.ndarray, np.ndarray], classes: tuple[int, ...]) -> tuple:
    rows = np.isin(samples[1], classes)
    return samples[0][rows], samples[1][rows]


class Incremental:
    """ReduNet that takes tasks."""

    def __init__(self, num_layers: int, eps: float) -> None:
        self.net = ReduNet(num_layers, eps, construction="covariances")

    def learn(self, x: np.ndarray, y: np.ndarray) -> None:
        """Adds the classes of a task."""
        self.net.partial_fit(x, y, classes=np.arange(10))

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        """Accuracy."""
        return self.net.score(x, y)

    def kept_bytes(self) -> int:
        """Of what is kept of samples."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.net.kept_))


class Subspaces:
    """A nearest-subspace classifier that takes tasks: the subspace of a class is its own."""

    def __init__(self, dim: int) -> None:
        self.dim, self.nets = dim, []

    def learn(self, x: np.ndarray, y: np.ndarray) -> None:
        """Adds the classes of a task."""
        self.nets.append(NearestSubspace(self.dim).fit(x, y))

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        """Accuracy."""
        names = np.concatenate([net.classes_ for net in self.nets])
        lengths = np.concatenate([net.lengths(x) for net in self.nets], 1)
        return float((names[lengths.argmax(1)] == y).mean())

    def kept_bytes(self) -> int:
        """Of the bases."""
        return sum(basis.nbytes for net in self.nets for basis in net.bases_)


def differences(parts: Split, chosen: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The network from covariances against the plain one, both of all samples of all classes."""
    eps = float(chosen.loc["ReduNet, incremental", "eps"])
    x, y = parts.train
    grown = ReduNet(config.num_layers, eps, construction="covariances")
    for task in TASKS:
        grown.partial_fit(*_of(parts.train, task))
    joint = ReduNet(config.num_layers, eps, construction="covariances").fit(x, y)
    plain = ReduNet(config.num_layers, eps, batch_size=10_000).fit(x, y)
    found = {"eps": eps}
    for name, other in {"joint": joint, "plain": plain}.items():
        for key, one in _matrices(grown.operators_).items():
            found[f"{key}, from {name}"] = _relative(one, _matrices(other.operators_)[key])
        predicted = grown.predict(parts.test[0]), other.predict(parts.test[0])
        found[f"other predictions than {name}"] = float((predicted[0] != predicted[1]).mean())
        found[f"accuracy of {name}"] = float((predicted[1] == parts.test[1]).mean())
    return pd.DataFrame([found])


def _matrices(operators: Operators) -> dict[str, np.ndarray]:
    """E and all C^j of all layers, `[L, (K,) 1, d, d]`."""
    matrices = np.asarray(operators.compression)
    if operators.factored:
        matrices = np.eye(matrices.shape[-1]) - matrices.swapaxes(-1, -2) @ matrices
    alphas = np.asarray(operators.alphas)[..., None, None, None]
    return {"E": np.asarray(operators.expansion), "C": alphas * matrices}


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, over layers and classes, over the size of the matrix."""
    sizes = np.linalg.norm(other, axis=(-2, -1))
    return float((np.linalg.norm(one - other, axis=(-2, -1)) / sizes).max())


def draw(table: pd.DataFrame, path: Path) -> None:
    """Accuracy on all classes seen, and forgetting, after each task."""
    names = list(dict.fromkeys(table["data"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(names) + 0.6, 4.8), layout="constrained")
        axes = figure.subplots(2, len(names), squeeze=False, sharex=True)
        for column, name in zip(axes.T, names, strict=True):
            rows = table[table["data"] == name]
            curves = dict(iter(rows.groupby("method", sort=False)))
            for ax, measure in zip(column, ("accuracy", "forgetting"), strict=True):
                over_tasks(ax, curves, measure)
            column[0].set_title(TITLES.get(name, name))
            column[1].set_xlabel("tasks learned")
            column[1].set_xticks(range(1, len(TASKS) + 1))
        axes[0, 0].set_ylabel("test accuracy,\nclasses seen so far")
        axes[1, 0].set_ylabel("forgetting")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
