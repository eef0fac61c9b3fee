"""Clustering what trained networks make of samples they have not seen (2110.04318, 2105.10446).

An MLP is trained with labels by cross entropy, or by rate reduction (`mcr2_training`); then its
features of test samples are clustered without labels, beside raw pixels: by a SENet, by exact
elastic-net coefficients, by the graph of nearest neighbours, and by k-means. Features that have
collapsed onto means suit k-means; those of rate reduction are meant to fill a subspace a class.

    python -m experiments.senet_collapse --preset cpu
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.neighbors import kneighbors_graph

from experiments import mcr2_training
from experiments.drawing.redunet import TITLES
from experiments.networks import spread
from experiments.splits import Split, classical, on_all, split, unit
from experiments.tables import markdown
from ncjax import metrics, runs
from ncjax.plots import COLORS, MARKERS, STYLE, save
from ncjax.senet import ElasticNetClustering, SENet
from ncjax.senet.spectral import leading_eigenvectors, spectral_clusters

OBJECTIVES = ("cross entropy", "Delta R")
METHODS = ("SENet", "elastic net", "nearest neighbours", "k-means")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        training: of the MLPs, with `rates` of one learning rate; data sets and seeds too.
        gamma: weight of the residual.
        widths: of SENet's perceptrons; the last is p too.
        steps: of its training.
        neighbours: of the nearest-neighbour graph.
    """

    training: mcr2_training.Config = dataclasses.field(
        default_factory=lambda: mcr2_training.Config(
            {"digits": (80, 1000), "fashion_mnist": (1000, 1000)}, rates=(1e-3,)
        )
    )
    gamma: float = 50.0
    widths: tuple[int, ...] = (256, 256)
    steps: int = 200
    neighbours: int = 10


PRESETS = {
    "smoke": Config(
        mcr2_training.Config({"digits": (20, 100)}, 20, (1e-3,), (), 8, 100, 10, (), 1),
        widths=(32,),
        steps=20,
        neighbours=5,
    ),
    "cpu": Config(),
    "accelerator": Config(
        mcr2_training.Config(
            {"digits": (80, 2000), "fashion_mnist": (5000, 10_000)}, 20_000, (1e-3,),
            feature_dim=128, batch_size=1000,
        ),
        widths=(1024, 1024, 1024), steps=2000,
    ),
}  # fmt: skip


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/senet_collapse")
) -> None:
    """Trains and clusters all, and writes the table and the figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    table = on_all(
        run,
        config.training.datasets,
        config.training.seeds,
        lambda name, seed: compared(name, seed, config),
    )
    columns = ["subspace", *METHODS, "SENet, error", "elastic net, error"]
    summary = markdown(spread(table, ["data", "features"], columns))
    runs.write_atomically(run / "senet_collapse.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    draw(table, run / "figures" / "senet_collapse.png")
    print(summary)
    print(f"written: {run}")


def compared(name: str, seed: int, config: Config) -> pd.DataFrame:
    """ACC of each method on each kind of features, and subspace-preserving errors.

    With them the test accuracy of nearest subspaces, which know the training labels.
    """
    parts = split(name, seed, *config.training.datasets[name]).map(unit)
    rows = [{"features": "pixels", **_clustered(parts, seed, config)}]
    for objective in OBJECTIVES:
        (rate,) = config.training.rates
        apply = mcr2_training.trained(parts, objective, seed, config.training, rate=rate)
        features = parts.map(_features(apply))
        rows.append({"features": objective, **_clustered(features, seed, config)})
    return pd.DataFrame(rows).assign(data=name, seed=seed)


def _features(apply: Callable) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: unit(np.asarray(jax.device_get(apply(x)[1])))


def _clustered(parts: Split, seed: int, config: Config) -> dict[str, float]:
    x, y = parts.test
    K = len(np.unique(y))
    net = SENet(
        K,
        gamma=config.gamma,
        widths=config.widths,
        dim=config.widths[-1],
        steps=config.steps,
        graph="symmetric",
        random_state=seed,
    )
    exact = ElasticNetClustering(K, gamma=config.gamma, random_state=seed)
    near = kneighbors_graph(x, config.neighbours)
    _, vectors = leading_eigenvectors((near + near.T) / 2, K, seed)
    found = {
        "SENet": net.fit_predict(x),
        "elastic net": exact.fit_predict(x),
        "nearest neighbours": spectral_clusters(vectors, K, seed),
        "k-means": KMeans(K, n_init=20, random_state=seed).fit_predict(x),
    }
    errors = {
        f"{name}, error": metrics.subspace_preserving_error(one.coefficients_, y)
        for name, one in (("SENet", net), ("elastic net", exact))
    }
    scores = {method: metrics.clustering_accuracy(y, labels) for method, labels in found.items()}
    return {"subspace": classical(parts, ["subspace"])["subspace"][1], **scores, **errors}


def draw(table: pd.DataFrame, path: Path) -> None:
    """ACC of each method by the kind of features, a panel for each data set."""
    names, kinds = (list(dict.fromkeys(table[key])) for key in ("data", "features"))
    titles = {"Delta R": r"$\Delta R$"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(names) + 0.8, 2.9), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for ax, name in zip(axes, names, strict=True):
            groups = table[table["data"] == name].groupby("features", sort=False)
            for number, method in enumerate(METHODS):
                places = np.arange(len(kinds)) + 0.15 * (number - 1.5)
                style = {"color": COLORS[number], "marker": MARKERS[number], "linestyle": ""}
                mean, deviation = groups[method].mean(), groups[method].std()
                ax.errorbar(places, mean, deviation, **style, capsize=2, label=method)
            ax.set_xticks(range(len(kinds)), [titles.get(kind, kind) for kind in kinds])
            ax.set(title=TITLES.get(name, name), xlabel="features", ylim=(0, 1.03))
        axes[0].set_ylabel("clustering accuracy")
        columns = 2 * min(len(names), 2)
        shown = axes[0].get_legend_handles_labels()
        figure.legend(*shown, loc="outside lower center", ncols=columns)
        save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
