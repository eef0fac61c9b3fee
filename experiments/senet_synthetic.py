"""SENet on random subspaces: its coefficients against exact ones, also of new points (2110.04318).

Points on five subspaces of dimension 6, uniform on their spheres, in 9 dimensions (the kind of data
that papers on subspace clustering draw). A network is trained on N of them, and writes the same
points and new ones; exact coefficients are scikit-learn's.

    python -m experiments.senet_synthetic --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.networks import spread
from experiments.splits import on_all
from experiments.tables import kept, markdown
from ncjax import metrics, runs
from ncjax.plots import COLORS, MARKERS, STYLE, save
from ncjax.senet import ElasticNet, SENet, exact_coefficients

MEASURES = ["training points", "new points", "exact", "relative error", "excess", "accuracy"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        sizes: training points.
        subspaces: K.
        dim: of each.
        ambient: D.
        new: points that are not trained on.
        gamma: weight of the residual.
        widths: of the perceptrons.
        steps: of training.
        seeds: draws and starts.
    """

    sizes: tuple[int, ...] = (100, 200, 500, 1000, 2000)
    subspaces: int = 5
    dim: int = 6
    ambient: int = 9
    new: int = 500
    gamma: float = 50.0
    widths: tuple[int, ...] = (256, 256)
    steps: int = 1000
    seeds: int = 3


PRESETS = {
    "smoke": Config((50, 100), new=50, widths=(32,), steps=40, seeds=2),
    "cpu": Config(),
    "accelerator": Config((200, 1000, 5000, 20_000), widths=(1024,) * 3, steps=5000, seeds=5),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/senet_synthetic")
) -> None:
    """Trains all, and writes the table and the figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    names = [str(size) for size in config.sizes]
    table = on_all(
        run, names, config.seeds, lambda name, seed: compared(int(name), seed, config, run)
    )
    summary = markdown(spread(table, ["N"], MEASURES))
    runs.write_atomically(run / "senet_synthetic.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    histories = pd.concat(map(pd.read_csv, sorted((run / "histories").glob("*.csv"))))
    draw(table, histories, run / "figures" / "senet_synthetic.png")
    print(summary)
    print(f"written: {run}")


def points(count: int, seed: int, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Points and the numbers of their subspaces."""
    rng = np.random.default_rng(seed)
    K, d, D = config.subspaces, config.dim, config.ambient
    bases = np.linalg.qr(rng.normal(size=(K, D, d)))[0]
    labels = rng.integers(0, K, count)
    found = np.einsum("ndk,nk->nd", bases[labels], rng.normal(size=(count, d)))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


def compared(N: int, seed: int, config: Config, run: Path) -> pd.DataFrame:
    """Subspace-preserving errors, and how near coefficients come to exact ones in training."""
    X, y = points(N + config.new, seed, config)
    net = SENet(
        config.subspaces,
        gamma=config.gamma,
        widths=config.widths,
        dim=config.widths[-1],
        steps=config.steps,
        graph="symmetric",
        random_state=seed,
    ).fit(X[:N])
    some = np.random.default_rng(seed).permutation(N)[:50]
    exact = exact_coefficients(ElasticNet(config.gamma, net.lam), X[:N], some)
    measured = net.training_.measured
    history = pd.DataFrame(
        [
            {"N": N, "seed": seed, "step": step, "error": one.relative_error.mean()}
            for step, one in measured.items()
        ]
    )
    kept(run / "histories" / f"{N}-{seed}.csv", lambda: history)
    last = measured[max(measured)]
    row = {
        "N": N,
        "seed": seed,
        "training points": metrics.subspace_preserving_error(net.coefficients_, y[:N]),
        "new points": metrics.subspace_preserving_error(net.transform(X[N:]), y[N:], y[:N]),
        "exact": metrics.subspace_preserving_error(exact, y[some], y[:N]),
        "relative error": last.relative_error.mean(),
        "excess": last.excess,
        "accuracy": metrics.clustering_accuracy(y[:N], net.labels_),
    }
    return pd.DataFrame([row])


def draw(table: pd.DataFrame, histories: pd.DataFrame, path: Path) -> None:
    """Subspace-preserving errors against N, and errors of coefficients against the step."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, name in enumerate(("training points", "new points", "exact")):
            groups = table.groupby("N")[name]
            style = {"color": COLORS[number], "marker": MARKERS[number], "capsize": 2}
            label = {"exact": "exact coefficients"}.get(name, f"SENet, {name}")
            left.errorbar(groups.mean().index, groups.mean(), groups.std(), **style, label=label)
        left.set(xscale="log", xlabel="training points", ylabel="subspace-preserving error")
        left.set_ylim(0)
        left.legend()
        for number, (N, rows) in enumerate(histories.groupby("N")):
            mean = rows.groupby("step")["error"].mean()
            right.plot(mean.index, mean, color=COLORS[number % len(COLORS)], label=f"N = {N:,}")
        right.set(xlabel="step", ylabel="relative error of coefficients")
        right.set_ylim(0)
        right.legend()
        save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
