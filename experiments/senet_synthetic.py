"""SENet on random subspaces: its coefficients against exact ones, also of new points (2110.04318).

Points on five subspaces of 9 dimensions, uniform on their spheres: of dimension 3, where exact
coefficients lead to no other subspace, and of dimension 6, where they do. A network is trained on N
of them, and writes the same points and new ones; exact coefficients are scikit-learn's.

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

ERRORS = ["training points", "new points", "exact"]
MEASURES = [*ERRORS, "relative error at 0", "relative error", "excess", "connectivity"]
MEASURES += ["accuracy", "new accuracy"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        sizes: training points.
        dims: of the subspaces, d.
        subspaces: K.
        ambient: D.
        new: points that are not trained on.
        gamma: weight of the residual.
        widths: of the perceptrons.
        steps: of training.
        seeds: draws and starts.
    """

    sizes: tuple[int, ...] = (100, 300, 1000, 2000)
    dims: tuple[int, ...] = (3, 6)
    subspaces: int = 5
    ambient: int = 9
    new: int = 500
    gamma: float = 50.0
    widths: tuple[int, ...] = (256, 256)
    steps: int = 1000
    seeds: int = 3


PRESETS = {
    "smoke": Config((50, 100), (3,), new=50, widths=(32,), steps=40, seeds=2),
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
    cases = {f"{dim}-{size}": (dim, size) for dim in config.dims for size in config.sizes}
    table = on_all(
        run, cases, config.seeds, lambda name, seed: compared(*cases[name], seed, config, run)
    )
    summary = markdown(spread(table, ["d", "N"], MEASURES))
    runs.write_atomically(run / "senet_synthetic.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    histories = pd.concat(map(pd.read_csv, sorted((run / "histories").glob("*.csv"))))
    draw(table, histories, run / "figures" / "senet_synthetic.png")
    print(summary)
    print(f"written: {run}")


def points(count: int, d: int, seed: int, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Points and the numbers of their subspaces."""
    rng = np.random.default_rng(seed)
    K, D = config.subspaces, config.ambient
    bases = np.linalg.qr(rng.normal(size=(K, D, d)))[0]
    labels = rng.integers(0, K, count)
    found = np.einsum("ndk,nk->nd", bases[labels], rng.normal(size=(count, d)))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


def compared(d: int, N: int, seed: int, config: Config, run: Path) -> pd.DataFrame:
    """Subspace-preserving errors, and how near coefficients come to exact ones in training."""
    X, y = points(N + config.new, d, seed, config)
    net = SENet(
        config.subspaces,
        gamma=config.gamma,
        widths=config.widths,
        dim=config.widths[-1],
        steps=config.steps,
        top=N - 1,
        graph="symmetric",
        random_state=seed,
    ).fit(X[:N])
    some = np.random.default_rng(seed).permutation(N)[:50]
    exact = exact_coefficients(ElasticNet(config.gamma, net.lam), X[:N], some)
    measured = net.training_.measured
    history = pd.DataFrame(
        [
            {"d": d, "N": N, "seed": seed, "step": step, "error": one.relative_error.mean()}
            for step, one in measured.items()
        ]
    )
    kept(run / "histories" / f"{d}-{N}-{seed}.csv", lambda: history)
    last = measured[max(measured)]
    row = {
        "d": d,
        "N": N,
        "seed": seed,
        "training points": metrics.subspace_preserving_error(net.coefficients_, y[:N]),
        "new points": metrics.subspace_preserving_error(net.transform(X[N:]), y[N:], y[:N]),
        "exact": metrics.subspace_preserving_error(exact, y[some], y[:N]),
        "relative error at 0": measured[0].relative_error.mean(),
        "relative error": last.relative_error.mean(),
        "excess": last.excess,
        "connectivity": metrics.connectivity(net.affinity(), y[:N]),
        "accuracy": metrics.clustering_accuracy(y[:N], net.labels_),
        "new accuracy": metrics.clustering_accuracy(y[N:], net.predict(X[N:])),
    }
    return pd.DataFrame([row])


def draw(table: pd.DataFrame, histories: pd.DataFrame, path: Path) -> None:
    """Subspace-preserving errors against N, errors of coefficients against the step, by d."""
    dims = list(dict.fromkeys(table["d"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.4 * len(dims) + 0.4), layout="constrained")
        for (left, right), d in zip(
            figure.subplots(len(dims), 2, squeeze=False), dims, strict=True
        ):
            here, traces = table[table["d"] == d], histories[histories["d"] == d]
            for number, name in enumerate(ERRORS):
                groups = here.groupby("N")[name]
                style = {"color": COLORS[number], "marker": MARKERS[number], "capsize": 2}
                label = {"exact": "exact coefficients"}.get(name, f"SENet, {name}")
                mean = groups.mean()
                left.errorbar(mean.index, mean, groups.std(), **style, label=label)
            left.set(xscale="log", xlabel="training points", ylabel="subspace-preserving error")
            left.set_xticks(mean.index, [f"{N:,}" for N in mean.index])
            left.set_xticks([], minor=True)
            left.set_ylim(0)
            left.set_title(f"subspaces of dimension {d}", loc="left")
            for number, (N, rows) in enumerate(traces.groupby("N")):
                mean = rows.groupby("step")["error"].mean()
                style = {"color": COLORS[number % 7], "linewidth": 1.2}
                right.plot(mean.index, mean, **style, label=f"N = {N:,}")
            right.set(xlabel="step", ylabel="relative error of coefficients", ylim=(0, 1.2))
        for column, ax in ((0, left), (1, right)):
            handles, labels = ax.get_legend_handles_labels()
            where = ("outside lower left", "outside lower right")[column]
            figure.legend(handles, labels, loc=where, ncols=1 + column, fontsize=8)
        save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
