"""Figure of `experiments.landscape_thresholds`: six panels, theory as lines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncjax import plots


def figure(
    tables: dict[str, pd.DataFrame], limits: dict[str, Callable[[float], float]], path: Path
) -> None:
    """Six panels: theory as lines, what was found as points.

    Args:
        tables: of the panels, in order.
        limits: for each loss of the last panel, the number of classes over its hyperparameter.
        path: of the PNG file.
    """
    panels = (_zero, _jump, _common, _convexity, _few, functools.partial(_classes, limits))
    with mpl.rc_context(plots.STYLE):
        page = Figure(figsize=(9.0, 5.4), layout="constrained")
        axes = page.subplots(2, 3).ravel()
        for ax, draw, table in zip(axes, panels, tables.values(), strict=True):
            draw(ax, table)
            ax.legend(fontsize=7, handlelength=1.4)
        plots.save(page, path)


def _lines(ax: Axes, groups: Any, x: str, y: str, names: Callable[[Any], str]) -> None:
    for number, (key, table) in enumerate(groups):
        color, table = plots.COLORS[number], table.sort_values(x)
        ax.plot(table[x], table[f"theory_{y}"], color=color, linewidth=1, label=names(key))
        good = table[table["verdict"].isin(["global_minimizer", "symmetric_minimum"])]
        rest = table[table["verdict"] == "inconclusive"]
        marker = {"marker": plots.MARKERS[number], "s": 12, "linewidths": 0.6, "edgecolors": color}
        ax.scatter(good[x], good[y], facecolors=color, **marker)
        ax.scatter(rest[x], rest[y], facecolors="none", **marker)


def _zero(ax: Axes, table: pd.DataFrame) -> None:
    _lines(ax, table.groupby("loss", sort=False), "pull", "gap", plots.LOSS_NAMES.get)
    ax.set(xlabel=r"$K\tau$", ylabel="logit gap s", title="decay beats the loss, K = 10")


def _jump(ax: Axes, table: pd.DataFrame) -> None:
    _lines(ax, table.groupby("num_classes"), "pull", "gap", "K = {}".format)
    for number, (_, some) in enumerate(table.groupby("num_classes")):
        if np.isfinite(some["jump"].iloc[0]):
            ax.axvline(some["jump"].iloc[0], color=plots.COLORS[number], linewidth=0.7, ls=":")
    ax.set(xlabel=r"$K\tau$", ylabel="logit gap s", title=r"focal, $\gamma$ = 3; dotted: jump")


def _common(ax: Axes, table: pd.DataFrame) -> None:
    names = r"$K\tau$ = {}".format
    _lines(ax, table.groupby("pull"), "lambda_b", "common", names)
    ax.set_xscale("log")
    ax.set(xlabel=r"$\lambda_b$", ylabel="common component z", title="MSE, K = 10, M = 1")


def _convexity(ax: Axes, table: pd.DataFrame) -> None:
    for number, (gamma, some) in enumerate(table.groupby("gamma")):
        color = plots.COLORS[number]
        shown = some[some["p"].between(1e-3, 0.3)]
        ax.scatter(shown["p"], shown["smallest"], s=3, color=color, alpha=0.5, linewidths=0)
        label = rf"$\gamma$ = {gamma:g}"
        ax.axvline(some["safe"].iloc[0], color=color, linewidth=0.9, label=label)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1e-3)
    ax.set(xlabel=r"$p_y$", ylabel="smallest eigenvalue", title="focal: convex right of the line")


def _few(ax: Axes, table: pd.DataFrame) -> None:
    for number, (loss, some) in enumerate(table.groupby("loss", sort=False)):
        color = plots.COLORS[number]
        ax.plot(some["dimensions"], some["theory"], color=color, linewidth=1)
        ax.scatter(
            some["dimensions"],
            some["objective"],
            s=14,
            color=color,
            marker=plots.MARKERS[number],
            label=plots.LOSS_NAMES[loss],
        )
    ax.axvline(9, color="0.6", linewidth=0.7, ls=":")  # d = K - 1
    ax.set(xlabel="d", ylabel="best objective found", title="too few dimensions, K = 10")
    ax.set_ylim(bottom=0)


def _classes(limits: dict[str, Callable[[float], float]], ax: Axes, table: pd.DataFrame) -> None:
    names = {"focal": r"focal, over $\gamma$", "poly1": r"poly-1, over $\epsilon$"}
    for number, (loss, some) in enumerate(table.groupby("loss", sort=False)):
        color = plots.COLORS[number]
        values = np.linspace(some["value"].min(), some["value"].max(), 100)
        ax.plot(values, [limits[loss](x) for x in values], color=color, linewidth=1)
        marker = plots.MARKERS[number]
        ax.scatter(some["value"], some["measured"], s=18, color=color, marker=marker)
        ax.plot([], [], color=color, marker=marker, ms=4, linewidth=1, label=names[loss])
    ax.set(xlabel="hyperparameter", ylabel="classes", title="contrastive up to so many classes")
