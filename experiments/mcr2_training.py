"""Networks trained by maximal coding rate reduction, beside cross entropy (2105.10446).

The same MLP on digits and Fashion-MNIST, by Delta R, by its variational form (2204.00077, latched
anew every so many steps), and by cross entropy; learning rates are chosen on validation samples.
Claimed of Delta R: classes span orthogonal subspaces, each of as many dimensions as there is room
for. Then what a step costs with the number of classes, exact and variational.

    python -m experiments.mcr2_training --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import pandas as pd
import tyro
from matplotlib.figure import Figure
from sklearn.model_selection import ParameterGrid

from experiments.drawing import redunet as drawing
from experiments.networks import spread
from experiments.splits import Split, classical, on_all, split, unit
from experiments.tables import kept, markdown
from ncjax import losses, runs
from ncjax.plots import COLORS, MARKERS, STYLE, save
from ncjax.redunet import Dictionary, latch, mcr2_loss, variational_rate_reduction
from ncjax.redunet import mcr2 as objectives

OBJECTIVES = ("cross entropy", "Delta R", "variational")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        datasets: by name: training samples of each class, test samples at most.
        steps: of Adam.
        rates: learning rates to choose from.
        penalties: of the variational form, to choose from.
        feature_dim: d.
        batch_size: samples a step; several times d.
        latched: steps between dictionaries of the variational form.
        classes: numbers of classes whose cost is measured.
        seeds: splits and starts.
    """

    datasets: dict[str, tuple[int, int]] = dataclasses.field(
        default_factory=lambda: {"digits": (80, 2000), "fashion_mnist": (1000, 5000)}
    )
    steps: int = 1500
    rates: tuple[float, ...] = (1e-4, 1e-3, 3e-3)
    penalties: tuple[float, ...] = (10.0, 100.0)
    feature_dim: int = 64
    batch_size: int = 500
    latched: int = 50
    classes: tuple[int, ...] = (10, 30, 100, 300)
    seeds: int = 3


PRESETS = {
    "smoke": Config({"digits": (20, 100)}, 20, (1e-3,), (100.0,), 8, 100, 10, (3, 6), 2),
    "cpu": Config(),
    "accelerator": Config(
        {"digits": (80, 2000), "fashion_mnist": (5000, 10_000)}, 20_000, feature_dim=128,
        batch_size=1000, classes=(10, 100, 1000),
    ),
}  # fmt: skip


class _MLP(nn.Module):
    feature_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = 10 * x  # samples have unit length
        for _ in range(2):
            x = nn.relu(nn.Dense(256)(x))
        features = nn.Dense(self.feature_dim)(x)
        return nn.Dense(10)(features), features


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/mcr2_training")
) -> None:
    """Trains all, measures costs, and writes tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    table = on_all(
        run,
        config.datasets,
        config.seeds,
        lambda name, seed: compared(name, seed, config, run / "features"),
    )
    costs = kept(run / "costs.csv", lambda: step_costs(config))
    columns = ["network", "subspace", "reduction", "rank", "between", "rate", "penalty"]
    summary = markdown(spread(table, ["data", "method"], columns))
    shown = markdown(costs.set_index("classes"))
    runs.write_atomically(run / "mcr2_training.md", f"{summary}\n\n{shown}\n")
    (run / "figures").mkdir(exist_ok=True)
    draw(run / "features", list(config.datasets), run / "figures" / "mcr2_training.png")
    draw_costs(costs, run / "figures" / "mcr2_costs.png")
    print(summary)
    print(shown)
    print(f"written: {run}")


def compared(name: str, seed: int, config: Config, folder: Path) -> pd.DataFrame:
    """What each objective leads to; features of the first seed are kept for the figure."""
    parts = split(name, seed, *config.datasets[name]).map(unit)
    rows = [{"method": "raw samples", **_geometry(parts)}]
    for objective in OBJECTIVES:
        tried = []
        for settings in _grid(objective, config):
            apply = trained(parts, objective, seed, config, **settings)
            features = parts.map(lambda x, apply=apply: unit(np.asarray(apply(x)[1])))
            row = {**settings, **_geometry(features)}
            if objective == "cross entropy":
                row["network"] = _accuracy(apply, *parts.test)
            tried.append((row["validation"], row, features))
        _, row, features = max(tried, key=lambda one: one[0])
        rows.append({"method": objective, **row})
        if seed == 0:
            x, y = features.test
            path = folder / f"{name}-{objective.replace(' ', '-')}.npz"
            runs.write_atomically(path, lambda to, x=x, y=y: np.savez(to, features=x, labels=y))
    return pd.DataFrame(rows).assign(data=name, seed=seed)


def _grid(objective: str, config: Config) -> list[dict[str, float]]:
    if objective == "variational":
        return list(ParameterGrid({"rate": config.rates, "penalty": config.penalties}))
    return list(ParameterGrid({"rate": config.rates}))


def _accuracy(apply: Callable, x: np.ndarray, y: np.ndarray) -> float:
    return float((np.asarray(apply(x)[0]).argmax(1) == y).mean())


def _geometry(parts: Split) -> dict[str, float]:
    """Of features at unit length: nearest subspace, Delta R, dimensions, cosines between classes.

    The rank of a class is the exponential of the entropy of the spectrum of its covariance; between
    classes, the mean absolute cosine.
    """
    validation, accuracy = classical(parts, ["subspace"])["subspace"]
    x, y = parts.test
    spectra = [np.linalg.svd(x[y == k], compute_uv=False) ** 2 for k in np.unique(y)]
    shares = [values[values > 0] / values.sum() for values in spectra]
    cosines = np.abs(x @ x.T)
    return {
        "validation": validation,
        "subspace": accuracy,
        "reduction": -float(mcr2_loss(*parts.train)),
        "rank": float(np.mean([np.exp(-(p * np.log(p)).sum()) for p in shares])),
        "between": float(cosines[y[:, None] != y].mean()),
    }


def trained(
    parts: Split, objective: str, seed: int, config: Config, *, rate: float, penalty: float = 0.0
) -> Callable[[np.ndarray], tuple[jax.Array, jax.Array]]:
    """The network after training: from samples to logits and features."""
    model = _MLP(config.feature_dim)
    classes = parts.train[1]
    x, y = jnp.asarray(parts.train[0]), jnp.asarray(classes)
    K, optimizer = int(classes.max()) + 1, optax.adam(rate)
    # Several deviations above the share of a class in a batch.
    most = {"largest_class": min(config.batch_size, 2 * config.batch_size // K + 50)}
    params = model.init(jax.random.key(seed), x[:1])

    @jax.jit
    def found(params: Any) -> Dictionary | None:
        features = objectives.unit(model.apply(params, x)[1])
        settings = {"num_classes": K, "atoms_per_class": config.feature_dim // 2}
        return latch(features, classes, **settings) if objective == "variational" else None

    def loss(point: tuple[Any, Dictionary | None], rows: jax.Array) -> jax.Array:
        params, dictionary = point
        logits, features = model.apply(params, x[rows])
        if objective == "cross entropy":
            return losses.cross_entropy(logits, y[rows]).mean()
        if objective == "Delta R":
            return mcr2_loss(features, y[rows], num_classes=K, **most)
        unit_features = objectives.unit(features)
        return -variational_rate_reduction(
            unit_features, y[rows], dictionary, penalty=penalty, **most
        )

    def step(state: tuple, rows: jax.Array) -> tuple[tuple, None]:
        point, inner = state
        updates, inner = optimizer.update(jax.grad(loss)(point, rows), inner)
        return (optax.apply_updates(point, updates), inner), None

    some_steps = jax.jit(lambda state, rows: jax.lax.scan(step, state, rows)[0])
    point, rng = (params, found(params)), np.random.default_rng(seed)
    state, size = (point, optimizer.init(point)), min(config.batch_size, len(y))
    for _ in range(config.steps // config.latched):
        state = some_steps(state, rng.integers(0, len(y), (config.latched, size)))
        params = state[0][0]
        state = ((params, found(params)), state[1])
    return jax.jit(functools.partial(model.apply, params))


def step_costs(config: Config) -> pd.DataFrame:
    """Milliseconds of an objective and its gradient in the features, by the number of classes."""
    d, rng, rows = config.feature_dim, np.random.default_rng(0), []
    for K in config.classes:
        N = 20 * K
        y = np.arange(N) % K
        z = np.asarray(objectives.unit(rng.normal(size=(N, d)).astype(np.float32)))
        dictionary = latch(z, y, num_classes=K, atoms_per_class=1)
        calls = {
            "Delta R": lambda z, y, K=K: mcr2_loss(z, y, num_classes=K, largest_class=20),
            "variational": lambda z, y, D=dictionary: (
                -variational_rate_reduction(z, y, D, largest_class=20)
            ),
        }
        row = {"classes": K}
        for name, call in calls.items():
            graded = jax.jit(jax.grad(call))
            jax.block_until_ready(graded(z, y))
            times = []
            for _ in range(5):
                started = time.perf_counter()
                jax.block_until_ready(graded(z, y))
                times.append(time.perf_counter() - started)
            row[f"{name}, ms"] = 1e3 * min(times)
        rows.append(row)
    return pd.DataFrame(rows)


def draw(folder: Path, names: list[str], path: Path) -> None:
    """Cosines of test features by class, and the spectrum of each class, by objective."""
    with mpl.rc_context(STYLE):
        count = len(names) * len(OBJECTIVES)
        figure = Figure(figsize=(1.75 * count + 0.8, 4.0), layout="constrained")
        axes = figure.subplots(2, count, squeeze=False)
        cases = [(name, objective) for name in names for objective in OBJECTIVES]
        for (upper, lower), (name, objective) in zip(axes.T, cases, strict=True):
            with np.load(folder / f"{name}-{objective.replace(' ', '-')}.npz") as found:
                x, y = found["features"], found["labels"]
            some = np.concatenate([np.flatnonzero(y == k)[:20] for k in np.unique(y)])
            image = drawing.cosines(upper, np.abs(x[some] @ x[some].T), y[some])
            title = {"Delta R": r"$\Delta R$"}.get(objective, objective)
            upper.set_title(f"{drawing.TITLES.get(name, name)}\n{title}")
            for k in np.unique(y):
                values = np.linalg.svd(x[y == k], compute_uv=False)
                lower.plot(
                    np.arange(1, len(values) + 1), values / values[0], color=COLORS[0], alpha=0.4
                )
            lower.set_xlabel("direction of a class")
            lower.set_ylim(0, 1.05)
        axes[1, 0].set_ylabel("singular value /\nlargest")
        figure.colorbar(image, ax=axes[0], label="absolute\ncosine")
        save(figure, path)


def draw_costs(costs: pd.DataFrame, path: Path) -> None:
    """Time against the number of classes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2.6), layout="constrained")
        ax = figure.subplots()
        for number, name in enumerate(("Delta R", "variational")):
            label = {"Delta R": r"$\Delta R$"}.get(name, name)
            style = {"color": COLORS[number], "marker": MARKERS[number], "label": label}
            ax.loglog(costs["classes"], costs[f"{name}, ms"], **style)
        ax.set_xlabel("classes (20 samples each)")
        ax.set_ylabel("objective and gradient (ms)")
        ax.legend()
        save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
