"""SOP of linear models: which low-rank signals and sparse errors it tells apart (2202.14026).

1. The success map: over rank and sparsity, the share of random problems whose errors are found to
   within 0.1 %, by gradient descent with a number of steps, where gradient flow ends, where it does
   from a far smaller start at the same lambda, and by the convex problem of gamma -> 0.
2. The error against lambda = -log(gamma) / (2 alpha), for several gamma.
3. The error over the steps of gradient descent, beside the end of gradient flow.

    python -m experiments.sop_linear --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning

from experiments.tables import kept, markdown
from ncjax import parallel, progress, runs
from ncjax.plots import COLORS, MARKERS, STYLE, save
from ncjax.sop import linear

METHODS = {
    "descent": "SOP, gradient descent",
    "flow": "SOP, end of gradient flow",
    "tiny": "the same, tiny start",
    "convex": "convex problem",
}
FOUND = 1e-3


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        ranks: r of the map.
        sparsities: k of the map.
        seeds: problems of each cell.
        steps: of gradient descent in the map.
        gamma: start of u and v in the map and over the steps.
        tiny: a second one, for gradient flow alone.
        alpha: ratio of learning rates there.
        weights: lambda of the second panel, at r = 5, k = 10.
        gammas: of the second panel.
        traced: numbers of steps of the third panel, at r = 5, k = 10.
    """

    ranks: tuple[int, ...]
    sparsities: tuple[int, ...]
    seeds: int
    steps: int
    gamma: float = 1e-8
    tiny: float = 1e-64
    alpha: float = 10.0
    weights: tuple[float, ...] = tuple(np.geomspace(0.05, 20, 25).tolist())
    gammas: tuple[float, ...] = (1e-1, 1e-2, 1e-4, 1e-8, 1e-16)
    traced: tuple[int, ...] = tuple(int(n) for n in np.geomspace(1e3, 1e6, 13))


PRESETS = {
    "smoke": Config((5, 40), (10,), 2, 5000, weights=(0.05, 1.0), gammas=(1e-8,), traced=(1000,)),
    "cpu": Config(tuple(range(2, 41, 2)), tuple(range(2, 41, 2)), 10, 100_000),
    "accelerator": Config(tuple(range(1, 41)), tuple(range(1, 61)), 20, 1_000_000),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/sop_linear")
) -> None:
    """Measures all, and writes the tables and the figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    parallel.use_all_cores()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    parts = {**{name: functools.partial(success, name) for name in METHODS}, **PANELS}
    tables = {}
    for name, measure in progress.bar(parts.items(), desc="tables", unit=" tables"):
        with jax.enable_x64(True):
            tables[name] = kept(run / f"{name}.csv", functools.partial(measure, config))
    grid = pd.concat([tables[name].assign(method=METHODS[name]) for name in METHODS])
    (run / "figures").mkdir(exist_ok=True)
    draw_map(grid, run / "figures" / "sop_linear_map.png")
    draw_errors(tables, run / "figures" / "sop_linear_errors.png")
    summary = markdown(summarised(grid))
    runs.write_atomically(run / "sop_linear.md", summary + "\n")
    print(summary)
    print(f"written: {run}")


def success(method: str, config: Config) -> pd.DataFrame:
    """The relative error of s for each problem of the map; all methods get the same problems."""
    cells = itertools.product(config.ranks, config.sparsities, range(config.seeds))
    table = pd.DataFrame(cells, columns=["rank", "sparsity", "seed"])
    items = {name: table[name].to_numpy() for name in ("rank", "sparsity")}
    if method == "convex":
        return table.assign(error=_convex_errors(items, config))
    gamma = config.tiny if method == "tiny" else config.gamma
    alpha = config.alpha * np.log(gamma) / np.log(config.gamma)  # at the same lambda
    items |= _settings(len(table), gamma, alpha)
    items["steps"] = np.full(len(table), config.steps)
    return table.assign(error=_errors(method, items))


def against_weight(config: Config) -> pd.DataFrame:
    """The error at r = 5, k = 10 where gradient flow ends, for each lambda and gamma."""
    cells = itertools.product(config.gammas, config.weights, range(config.seeds))
    table = pd.DataFrame(cells, columns=["gamma", "weight", "seed"])
    alpha = -np.log(table["gamma"]) / (2 * table["weight"])
    items = _cell(len(table)) | _settings(len(table), table["gamma"].to_numpy(), alpha.to_numpy())
    table["error"] = _errors("flow", items, table["seed"].to_numpy())
    exact = pd.DataFrame(
        itertools.product(config.weights, range(config.seeds)), columns=["weight", "seed"]
    )
    errors = _convex_errors(_cell(len(exact)), config, exact["seed"], exact["weight"])
    return pd.concat([table, exact.assign(gamma=0.0, error=errors)])


def over_steps(config: Config) -> pd.DataFrame:
    """The error at r = 5, k = 10 after numbers of steps; -1 of them is where the flow ends."""
    cells = itertools.product(config.traced, range(config.seeds))
    table = pd.DataFrame(cells, columns=["steps", "seed"])
    items = _cell(len(table)) | _settings(len(table), config.gamma, config.alpha)
    items["steps"] = table["steps"].to_numpy()
    table["error"] = _errors("descent", items, table["seed"].to_numpy())
    ends = _cell(config.seeds) | _settings(config.seeds, config.gamma, config.alpha)
    flow = pd.DataFrame({"steps": -1, "seed": range(config.seeds), "error": _errors("flow", ends)})
    return pd.concat([table, flow])


def _cell(count: int) -> dict[str, np.ndarray]:
    return {"rank": np.full(count, 5), "sparsity": np.full(count, 10)}


def _settings(count: int, gamma: Any, alpha: Any) -> dict[str, np.ndarray]:
    return {"gamma": np.full(count, gamma), "alpha": np.full(count, alpha)}


def _errors(
    method: str, items: dict[str, np.ndarray], problems: np.ndarray | None = None
) -> np.ndarray:
    """Of each item; problems are numbered by the item, or as told."""
    solve = _solver(method, int(items["rank"].max()))
    settings = {
        "key": jax.random.key(0),
        "ids": problems,
        "together": solved_together(),
        "chunk": 400,
    }
    return parallel.sweep(solve, items, **settings)


def solved_together() -> int | None:
    """For `parallel.sweep`: a few problems fill a core's registers; an accelerator takes all."""
    return 4 if parallel.together_for_loops() else None


@functools.lru_cache
def _solver(method: str, most_rank: int) -> Callable[..., jax.Array]:
    def error(key: jax.Array, item: dict[str, jax.Array]) -> jax.Array:
        J, clean, s = linear.random_problem(
            key, item["rank"], item["sparsity"], most_rank=most_rank
        )
        start = {name: item[name] for name in ("gamma", "alpha")}
        if method == "descent":
            found = linear.descend(J, clean + s, **start, steps=item["steps"])
        else:
            found = linear.limit(J, clean + s, **start)
        return jnp.linalg.norm(found.s - s) / jnp.linalg.norm(s)

    return error


def _convex_errors(
    items: dict[str, np.ndarray],
    config: Config,
    problems: Any = None,
    weights: Any = None,
) -> list[float]:
    problems = range(len(items["rank"])) if problems is None else problems
    if weights is None:
        weight = linear.sparsity_weight(config.gamma, config.alpha)
        weights = itertools.repeat(weight, len(items["rank"]))
    make = functools.partial(linear.random_problem, most_rank=int(items["rank"].max()))
    made = jax.jit(jax.vmap(make))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.asarray(problems))
    drawn = jax.device_get(made(keys, items["rank"], items["sparsity"]))
    errors = []
    cases = zip(*drawn, items["rank"], weights, strict=True)
    for J, clean, s, rank, weight in progress.bar(list(cases), desc="convex", unit=" problems"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            found = linear.convex_solution(J[:, :rank], clean + s, weight)
        errors.append(float(np.linalg.norm(found.s - s) / np.linalg.norm(s)))
    return errors


PANELS: dict[str, Callable[[Config], pd.DataFrame]] = {
    "weights": against_weight,
    "steps": over_steps,
}


def summarised(grid: pd.DataFrame) -> pd.DataFrame:
    """For each method the share of problems that it solves, and its cells where half are solved."""
    solved = grid.assign(solved=grid["error"] <= FOUND)
    cells = solved.groupby(["method", "rank", "sparsity"], sort=False)["solved"].mean()
    per_method = cells.groupby("method", sort=False)
    convex = cells.unstack("method")[METHODS["convex"]] >= 0.5
    agree = (cells.unstack("method") >= 0.5).eq(convex, axis=0).mean()
    return pd.DataFrame(
        {
            "problems solved": per_method.mean(),
            "cells with half of them solved": per_method.apply(lambda one: (one >= 0.5).sum()),
            "cells as the convex problem's": agree.loc[list(METHODS.values())],
        }
    )


def draw_map(grid: pd.DataFrame, path: Path) -> None:
    """A panel a method: shares of solved problems, and the convex problem's boundary."""
    solved = grid.assign(solved=grid["error"] <= FOUND)
    shares = {
        name: solved[solved["method"] == name].pivot_table("solved", "sparsity", "rank")
        for name in METHODS.values()
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.7), layout="constrained")
        axes = figure.subplots(1, len(METHODS), sharey=True)
        for ax, (name, share) in zip(axes, shares.items(), strict=True):
            shown = ax.pcolormesh(share.columns, share.index, share, cmap="cividis", vmin=0, vmax=1)
            _boundary(ax, shares[METHODS["convex"]])
            ax.set(title=name, xlabel="rank r")
        axes[0].set_ylabel("errors k, of 100 labels")
        figure.colorbar(shown, ax=axes, label="share solved")
        save(figure, path)


def _boundary(ax: Axes, share: pd.DataFrame) -> None:
    if min(share.shape) > 1:
        ax.contour(share.columns, share.index, share, [0.5], colors="white", linewidths=1.2)


def draw_errors(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """Errors against lambda, for several gamma, and against the steps of gradient descent."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        table = tables["weights"]
        for number, gamma in enumerate(table["gamma"].unique()):
            median = table[table["gamma"] == gamma].groupby("weight")["error"].median()
            exact = gamma == 0
            style = {"color": "black", "linestyle": "--"} if exact else {"color": COLORS[number]}
            label = METHODS["convex"] if exact else rf"$\gamma = 10^{{{np.log10(gamma):.0f}}}$"
            marker = None if exact else MARKERS[number]
            left.plot(median, label=label, marker=marker, markersize=3, linewidth=1.2, **style)
        left.set(xscale="log", yscale="log", xlabel=r"$\lambda = -\log\gamma / 2\alpha$")
        left.set_ylabel("relative error of s (median)")
        left.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
        _draw_steps(right, tables["steps"])
        save(figure, path)


def _draw_steps(ax: Axes, table: pd.DataFrame) -> None:
    traced = table[table["steps"] > 0]
    for number, (_, one) in enumerate(traced.groupby("seed")):
        label = "one problem" if number == 0 else None
        ax.plot(one["steps"], one["error"], color=COLORS[0], linewidth=0.8, label=label)
    ends = table.loc[table["steps"] < 0, "error"]
    last = traced["steps"].max()
    ax.plot(
        np.full(len(ends), 1.6 * last),
        ends,
        MARKERS[1],
        color=COLORS[1],
        markersize=3,
        label="end of gradient flow",
    )
    ax.set(xscale="log", yscale="log", xlabel="steps of gradient descent")
    ax.set_ylabel("relative error of s")
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


if __name__ == "__main__":
    tyro.cli(main)
