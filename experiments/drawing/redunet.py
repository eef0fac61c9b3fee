"""Figures of the experiments with rate reduction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncjax.plots import COLORS, MARKERS, STYLE, save

TITLES = {
    "gaussians": "Gaussians",
    "fashion_mnist": "Fashion-MNIST",
    "signals": "signals",
    "rotated": "Fashion-MNIST,\nrotated",
}


def layers(traces: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Rates and test accuracy against the layer, a column of panels for each data set."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * len(traces) + 0.6, 4.2), layout="constrained")
        axes = figure.subplots(2, len(traces), squeeze=False, sharex="col")
        for (upper, lower), (name, trace) in zip(axes.T, traces.items(), strict=True):
            numbers = np.arange(1, len(trace["reduction"]) + 1)
            upper.plot(numbers, trace["reduction"], color=COLORS[0], label=r"$\Delta R$")
            rates = trace["class_rate"]
            upper.plot(numbers, rates, color=COLORS[1], linestyle="--", label="$R_c$")
            upper.set_title(TITLES.get(name, name))
            upper.set_ylim(0)
            lower.plot(numbers, trace["accuracy"], color=COLORS[2], label="ReduNet")
            lower.axhline(trace["raw"], color="0.4", linestyle=":", label="raw nearest subspace")
            low = min(trace["accuracy"].min(), trace["raw"], 0.95)
            lower.set_ylim(low - 0.6 * (1.005 - low), 1.005)
            lower.set_xlabel("layer")
        axes[0, 0].set_ylabel("rate (nats)")
        axes[1, 0].set_ylabel("test accuracy")
        shown = [line for ax in axes[:, 0] for line in ax.get_legend_handles_labels()[0]]
        figure.legend(handles=shown, loc="outside lower center", ncols=4)
        save(figure, path)


def similarities(traces: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Absolute cosines of test samples, ordered by class, before and behind the network."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.0 * len(traces) + 0.9, 4.2), layout="constrained")
        axes = figure.subplots(2, len(traces), squeeze=False)
        for column, (name, trace) in zip(axes.T, traces.items(), strict=True):
            for ax, which in zip(column, ("before", "after"), strict=True):
                image = cosines(ax, trace[which], trace["labels"])
            column[0].set_title(TITLES.get(name, name))
        axes[0, 0].set_ylabel("raw samples")
        axes[1, 0].set_ylabel("features")
        figure.colorbar(image, ax=axes, label="absolute cosine", shrink=0.7)
        save(figure, path)


def cosines(ax: Axes, matrix: np.ndarray, labels: np.ndarray) -> mpl.image.AxesImage:
    """A heat map with ticks at the middle of each class."""
    image = ax.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    names = np.unique(labels)
    middles = [np.flatnonzero(labels == name).mean() for name in names]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(middles, [str(name) for name in names], fontsize=7)
        axis.set_tick_params(length=0)
    return image


def over_tasks(ax: Axes, curves: Mapping[str, pd.DataFrame], column: str) -> None:
    """Means over seeds against the task, bars of a standard deviation.

    Args:
        ax: to draw on.
        curves: rows of each method, with "task" and the column.
        column: what is drawn.
    """
    for number, (name, rows) in enumerate(curves.items()):
        groups = rows.groupby("task")[column]
        ax.errorbar(
            groups.mean().index,
            groups.mean(),
            groups.std(),
            color=COLORS[number % 7],
            marker=MARKERS[number % 7],
            markersize=4,
            linewidth=1.2,
            capsize=2,
            zorder=10 - number,  # the first is the one to look at
            label=name,
        )


def plain_and_shifted(table: pd.DataFrame, path: Path) -> None:
    """Accuracy on samples as they are and shifted, a panel for each data set.

    Args:
        table: "data", "method", "plain" and "shifted" accuracy, a row for each seed.
        path: where the PNG goes.
    """
    names, methods = (list(dict.fromkeys(table[key])) for key in ("data", "method"))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.1 * len(names) + 1.6, 2.9), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for ax, name in zip(axes, names, strict=True):
            for column, color, marker in (("plain", COLORS[0], "o"), ("shifted", COLORS[1], "s")):
                groups = table[table["data"] == name].groupby("method", sort=False)[column]
                mean, deviation = groups.mean().reindex(methods), groups.std().reindex(methods)
                style = {"color": color, "marker": marker, "linestyle": "", "capsize": 2}
                label = {"plain": "as they are", "shifted": "shifted or rotated"}[column]
                ax.errorbar(mean, range(len(methods)), None, deviation, **style, label=label)
            ax.set_title(TITLES.get(name, name))
            ax.set_xlim(0, 1.02)
            ax.grid(axis="y", color="0.92")
            ax.set_xlabel("test accuracy")
        axes[0].set_yticks(range(len(methods)), methods)
        axes[0].invert_yaxis()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        save(figure, path)


def trained(table: pd.DataFrame, ends: pd.DataFrame, path: Path) -> None:
    """Test accuracy against the epoch at the rates that were chosen; means over seeds.

    Args:
        table: every epoch of every start and rate.
        ends: the rows that were chosen.
        path: where the PNG goes.
    """
    names = list(dict.fromkeys(table["data"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(names) + 0.5, 2.9), layout="constrained")
        for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for number, method in enumerate(("fine-tuned", "from random")):
                chosen = ends[(ends["data"] == name) & (ends["method"] == method)]
                rows = table.merge(chosen[["data", "seed", "method", "rate"]])
                groups = rows.groupby("epoch")["accuracy"]
                mean, spread = groups.mean(), groups.std().fillna(0)
                ax.plot(mean.index, mean, color=COLORS[number], label=method)
                ax.fill_between(
                    mean.index, mean - spread, mean + spread, color=COLORS[number], alpha=0.2
                )
            for method, style in (("constructed", "--"), ("raw nearest subspace", ":")):
                level = ends[(ends["data"] == name) & (ends["method"] == method)]["accuracy"]
                ax.axhline(level.mean(), color="0.3", linestyle=style, label=method)
            low = ends[ends["data"] == name]["accuracy"].min()
            ax.set_ylim(low - 1.5 * (1 - low), 1.0)
            ax.set_title(TITLES.get(name, name))
            ax.set_xlabel("epoch")
            ax.set_ylabel("test accuracy")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(figure, path)
