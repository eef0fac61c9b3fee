"""Clustering images by a SENet trained on few of them or many, beside other methods (2110.04318).

Digits and all 70,000 images of Fashion-MNIST, in 500 directions of their scattering coefficients. A
network is trained on N of them, drawn at random, and all are clustered; so they are by k-means and
by the graph of nearest neighbours. Exact self-expression costs N^2 at least: the elastic net and
orthogonal matching pursuit cluster a thousand (all digits), as does a SENet trained on those.
Labels are for scores only, but settings were chosen with scores in sight: those of SENet
beforehand, and of every other method all of a small grid are tried, of which the best score counts.

    python -m experiments.senet_images --preset cpu
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import scipy.sparse
import tyro
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from experiments.drawing import senet as drawing
from experiments.networks import spread
from experiments.splits import on_all
from experiments.tables import markdown
from ncjax import data, metrics, progress, runs
from ncjax.senet import ElasticNetClustering, OMPClustering, SENet, scattering_features
from ncjax.senet.affinity import graph_of
from ncjax.senet.spectral import leading_eigenvectors, spectral_clusters

CLUSTERS = 10
SCORES = ["accuracy", "nmi", "ari", "error", "excess", "seconds"]
EXACT = ("elastic net", "OMP")


@dataclasses.dataclass(frozen=True)
class Images:
    """What is clustered, and how.

    Attributes:
        dim: of the features.
        sizes: steps of training by N, the images that a network is trained on.
        drawn: images that the exact methods cluster (all if None), and steps of a network that is
            trained on those.
        gamma: weight of the residual.
        components: eigenvectors of SENet's graph.
        top: coefficients of a point that SENet keeps.
        kept: images at most, of a random draw; all if None.
    """

    dim: int
    sizes: dict[int, int]
    drawn: tuple[int | None, int]
    gamma: float
    components: int
    top: int
    kept: int | None = None


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        images: by data set.
        widths: of the perceptrons; the last is p too.
        batch_size: queries a step.
        components: eigenvectors that the other methods' graphs are tried with.
        neighbours: of the nearest-neighbour graph, tried.
        nonzero: coefficients of a point in matching pursuit, tried.
        seeds: draws and starts.
    """

    images: dict[str, Images] = dataclasses.field(
        default_factory=lambda: {
            "digits": Images(500, {200: 100, 600: 250}, (None, 400), 50.0, 15, 400),
            "fashion_mnist": Images(
                500, {200: 200, 1000: 300, 5000: 600}, (1000, 300), 50.0, 15, 1500
            ),
        }
    )
    widths: tuple[int, ...] = (512, 512)
    batch_size: int = 1000
    components: tuple[int, ...] = (10, 15)
    neighbours: tuple[int, ...] = (5, 20)
    nonzero: tuple[int, ...] = (3, 5, 10)
    seeds: int = 3


PRESETS = {
    "smoke": Config(
        {"digits": Images(20, {60: 30}, (None, 30), 50.0, 10, 20, 150)},
        (32,), 100, (10,), (5,), (5,), 2,
    ),
    "cpu": Config(),
    "accelerator": Config(
        {"fashion_mnist": Images(
            500, dict.fromkeys((200, 1000, 5000, 20_000), 5000), (4000, 5000), 200.0, 15, 1000
        )},
        (1024, 1024, 1024), 5000, seeds=5,
    ),
}  # fmt: skip


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/senet_images")
) -> None:
    """Clusters everything, and writes the table and the figures.

    Args:
        preset: smoke takes seconds, cpu a little over an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    started, config = time.perf_counter(), PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    every = dict(cases(config))
    tables = [
        on_all(
            run,
            [name],
            1 if settled(*case[:2], config) else config.seeds,
            lambda _, seed, case=case: clustered(*case, seed, config, run),
        )
        for name, case in progress.bar(every.items(), desc="methods")
    ]
    table = pd.concat(tables, ignore_index=True)
    summary = markdown(spread(table, ["data", "method", "trained", "clustered"], SCORES))
    runs.write_atomically(run / "senet_images.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    drawing.scores(table, run / "figures" / "senet_images.png")
    affinities = {name: run / "affinities" / f"{name}.npz" for name in config.images}
    drawing.affinities(affinities, run / "figures" / "senet_affinity.png")
    print(summary)
    print(f"written: {run}, after {time.perf_counter() - started:.0f} s")


def cases(config: Config) -> Iterator[tuple[str, tuple[str, str, int | None]]]:
    """By a name for files: data set, method, and images that a network is trained on."""
    for name, images in config.images.items():
        for size in images.sizes:
            yield f"{name}-senet-{size}", (name, "SENet", size)
        for method in ("SENet", *EXACT, "neighbours", "k-means"):
            yield f"{name}-{method.replace(' ', '-')}", (name, method, None)


def settled(name: str, method: str, config: Config) -> bool:
    """Whether a method gives the same graph whatever the seed."""
    exact = method in EXACT and config.images[name].drawn[0] is None
    return method == "neighbours" or exact


def features(name: str, images: Images, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scattering coefficients of all images at unit length, and labels."""
    found = data.load(name)
    pixels = np.concatenate([np.asarray(found.images), np.asarray(found.test_images)])
    labels = np.concatenate([np.asarray(found.labels), np.asarray(found.test_labels)])
    rows = np.random.default_rng(0).permutation(len(labels))[: images.kept]
    pixels = pixels.reshape(pixels.shape[:3])[rows]
    x = scattering_features(pixels, images.dim, cache=folder, verbose=True)
    return normalize(x), labels[rows]


def clustered(
    name: str, method: str, size: int | None, seed: int, config: Config, run: Path
) -> pd.DataFrame:
    """Scores of the best of a method's settings, and how long clustering took with one of them."""
    images = config.images[name]
    x, y = features(name, images, run / "features")
    if method in EXACT or (method == "SENet" and size is None):
        rows = np.random.default_rng([seed, 2]).permutation(len(y))[: images.drawn[0]]
        x, y = x[rows], y[rows]
    shared = {"data": name, "clustered": len(y), "seed": seed, "trained": 0}
    if method != "SENet":
        tried = [
            {"method": method, **_scores(y, labels), "seconds": seconds}
            for labels, seconds in others(method, x, images, config, seed)
        ]
        return pd.DataFrame([shared | max(tried, key=lambda row: row["accuracy"])])
    started = time.perf_counter()
    net = senet(images, config, len(y), size, seed).fit(x)
    seconds, shared["trained"] = time.perf_counter() - started, size or len(y)
    if seed == 0 and size is None:
        _keep_affinity(net.affinity(), y, run / "affinities" / f"{name}.npz")
    shared["error"] = metrics.subspace_preserving_error(net.coefficients_, y)
    shared["excess"] = list(net.training_.measured.values())[-1].excess
    found = {"method": "SENet", **_scores(y, net.labels_), "seconds": seconds}
    return pd.DataFrame([shared | found])


def _scores(y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return dataclasses.asdict(metrics.clustering_scores(y, labels))


def senet(images: Images, config: Config, count: int, size: int | None, seed: int) -> SENet:
    """The network, and how it clusters so many images."""
    return SENet(
        CLUSTERS,
        gamma=images.gamma,
        widths=config.widths,
        dim=config.widths[-1],
        train_size=size,
        steps=images.drawn[1] if size is None else images.sizes[size],
        batch_size=config.batch_size,
        top=min(images.top, count - 1),
        graph="symmetric",
        components=images.components,
        random_state=seed,
    )


def others(
    method: str, x: np.ndarray, images: Images, config: Config, seed: int
) -> Iterator[tuple[np.ndarray, float]]:
    """Clusters by each setting of another method, and the seconds that it takes alone."""
    started = time.perf_counter()
    if method == "k-means":
        labels = KMeans(CLUSTERS, n_init=5, random_state=seed).fit_predict(x)
        yield labels, time.perf_counter() - started
        return
    for graph, spent in graphs(method, x, images, config):
        started = time.perf_counter()
        _, vectors = leading_eigenvectors(graph, max(config.components), seed)
        spent += time.perf_counter() - started
        for count in config.components:
            started = time.perf_counter()
            labels = spectral_clusters(vectors[:, -count:], CLUSTERS, seed)
            yield labels, spent + time.perf_counter() - started


def graphs(
    method: str, x: np.ndarray, images: Images, config: Config
) -> Iterator[tuple[scipy.sparse.csr_array, float]]:
    """The graph of each setting of a method, and seconds; both kinds where it has coefficients."""
    started = time.perf_counter()
    if method == "neighbours":
        nearest = NearestNeighbors(n_neighbors=max(config.neighbours)).fit(x)
        columns = nearest.kneighbors(return_distance=False)
        for count in config.neighbours:
            ones, starts = np.ones(len(x) * count), np.arange(len(x) + 1) * count
            chosen = columns[:, :count].ravel()
            rows = scipy.sparse.csr_array((ones, chosen, starts), shape=(len(x),) * 2)
            yield scipy.sparse.csr_array((rows + rows.T) / 2), time.perf_counter() - started
        return
    made = {
        "elastic net": [ElasticNetClustering(CLUSTERS, gamma=images.gamma)],
        "OMP": [OMPClustering(CLUSTERS, n_nonzero=count) for count in config.nonzero],
    }
    for one in made[method]:
        started = time.perf_counter()
        one.fit(x)
        seconds = time.perf_counter() - started
        for kind in ("symmetric", "neighbours"):
            yield graph_of(one.coefficients_, kind), seconds


def _keep_affinity(affinity: scipy.sparse.csr_array, y: np.ndarray, path: Path) -> None:
    """The affinity of at most 1,000 points, ordered by class, and their classes."""
    rows = np.random.default_rng(0).permutation(len(y))[:1000]
    rows = rows[np.argsort(y[rows], kind="stable")]
    some = affinity[rows][:, rows].toarray()
    runs.write_atomically(path, lambda to: np.savez(to, affinity=some, labels=y[rows]))


if __name__ == "__main__":
    tyro.cli(main)
