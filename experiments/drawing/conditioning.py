"""Figures of `experiments.landscape_conditioning`: over decay, classes and hyperparameters."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ncjax.plots import COLORS, MARKERS, STYLE, save

TITLES = {
    "condition_number": r"condition number $\kappa$",
    "escape_steps": "escape steps",
    "collapse_steps": "collapse steps",
}
STEPS = tuple(TITLES)


def draw(points: pd.DataFrame, kinds: dict[str, str], folder: Path) -> None:
    """All figures.

    Args:
        points: one row a problem; `sweep` says of which figure it is, if of any.
        kinds: what the values of `equal` are called, "decay" and "ratio".
        folder: is made if need be.
    """
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        draw_decay(points[points["sweep"] == "decay"], folder / "decay.png")
        draw_rescaling(points[points["sweep"] == "mse"], kinds, folder / "rescaled_mse.png")
        if points["sweep"].isin(["gamma", "smoothing"]).any():
            draw_hyperparameters(points, kinds, folder / "hyperparameters.png")
        classes = points[points["sweep"] == "classes"]
        if len(classes):
            draw_classes(classes, kinds, folder / "classes.png")


def draw_decay(points: pd.DataFrame, path: Path) -> None:
    """Condition number and escape steps against decay and decay ratio, with both steps."""
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    table = points[points["ratio"] < 0.9]
    for ax, (y, x) in zip(axes.flat, itertools.product(STEPS[:2], ("decay", "ratio")), strict=True):
        for number, (name, line) in enumerate(table.groupby("variant", sort=False)):
            style = {"color": COLORS[number], "linewidth": 1.3}
            mark = {"marker": MARKERS[number], "markersize": 3.5, "markevery": 4}
            ax.plot(line[x], line[y], **style, **mark, label=name)
            ax.plot(line[x], line[f"safe_{y}"], linestyle=":", **style)
        ax.set(xscale="log", yscale="log")
    axes[0, 0].set_ylabel(r"condition number $\kappa$")
    axes[1, 0].set_ylabel("escape steps")
    axes[1, 0].set_xlabel(r"decay $\lambda$")
    axes[1, 1].set_xlabel(r"decay ratio $\mu/\sigma_0$ (1: all collapses to zero)")
    _legend(figure, axes[0, 0], "solid: step 1/L at the minimiser; dotted: safe at the origin too")
    save(figure, path)


def draw_classes(points: pd.DataFrame, kinds: dict[str, str], path: Path) -> None:
    """Condition number and escape steps against the number of classes."""
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    decay = points.loc[points["equal"] == "decay", "decay"].iloc[0]
    kinds = {"ratio": kinds["ratio"], "decay": rf"equal decay $\lambda$ = {decay:g}"}
    for ax, (y, equal) in zip(axes.flat, itertools.product(STEPS[:2], kinds), strict=True):
        chosen = points[points["equal"] == equal]
        for number, (name, line) in enumerate(chosen.groupby("variant", sort=False)):
            style = {"color": COLORS[number], "linewidth": 1.3}
            mark = {"marker": MARKERS[number], "markersize": 3.5}
            ax.plot(line["num_classes"], line[y], **style, **mark, label=name)
            ax.plot(line["num_classes"], line[f"safe_{y}"], linestyle=":", **style)
        ax.set(xscale="log", yscale="log")
    for ax, title in zip(axes[0], kinds.values(), strict=True):
        ax.set_title(title)
    for ax in axes[1]:
        ax.set_xlabel("classes K")
    axes[0, 0].set_ylabel(r"condition number $\kappa$")
    axes[1, 0].set_ylabel("escape steps")
    _legend(figure, axes[0, 0], "solid: step 1/L at the minimiser; dotted: safe at the origin too")
    save(figure, path)


def draw_rescaling(points: pd.DataFrame, kinds: dict[str, str], path: Path) -> None:
    """Heat maps of the three criteria over scale and target of MSE."""
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    levels = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    for row, (equal, kind) in zip(axes, kinds.items(), strict=True):
        table = points[(points["equal"] == equal) & points["solved"]]
        for ax, name in zip(row, STEPS, strict=True):
            values = table.pivot(index="scale", columns="target", values=name)
            shade = {"cmap": "cividis_r", "norm": LogNorm(), "shading": "nearest"}
            image = ax.pcolormesh(values.columns, values.index, values, rasterized=True, **shade)
            lines = ax.contour(values.columns, values.index, values, levels, colors="white")
            lines.set(linewidth=0.5)
            ax.clabel(lines, fmt=lambda x: f"{x:,.0f}", fontsize=6.5)
            best = table.loc[table[name].idxmin()]
            ax.plot(1, 1, "o", color="white", markeredgecolor="black", markersize=6)
            ax.plot(
                best["target"],
                best["scale"],
                "*",
                color=COLORS[1],
                markeredgecolor="black",
                markersize=12,
                clip_on=False,
            )
            ax.set_xscale("log", base=2)
            ax.set_yscale("log", base=2)
            ax.set_title(TITLES[name])
            figure.colorbar(image, ax=ax, shrink=0.9)
        row[0].set_ylabel(f"{kind}\n\nscale of the true class")
    for ax in axes[-1]:
        ax.set_xlabel("target of the true class")
    figure.suptitle("circle: plain MSE; star: least", fontsize=9)
    save(figure, path)


def draw_hyperparameters(points: pd.DataFrame, kinds: dict[str, str], path: Path) -> None:
    """The three criteria against gamma of focal and smoothing of label smoothing."""
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, name in zip(axes, ("gamma", "smoothing"), strict=True):
        for number, (criterion, title) in enumerate(TITLES.items()):
            for equal, style in [("ratio", "-"), ("decay", "--")]:
                line = points[(points["sweep"] == name) & (points["equal"] == equal)]
                settings = {"color": COLORS[number], "linestyle": style, "linewidth": 1.3}
                mark = {"marker": MARKERS[number], "markersize": 3.5, "markevery": 4}
                label = title if equal == "ratio" else None
                ax.plot(line[name], line[criterion], **settings, **mark, label=label)
        ax.set_yscale("log")
    axes[0].set(xlabel=r"focal: $\gamma$ (0: cross entropy)", ylabel="steps, or condition number")
    axes[1].set_xlabel(r"label smoothing: $\alpha$ (0: cross entropy)")
    _legend(figure, axes[0], f"solid: {kinds['ratio']}; dashed: {kinds['decay']}")
    save(figure, path)


def _legend(figure: Figure, ax: Axes, title: str) -> None:
    handles, names = ax.get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": len(names)}
    figure.legend(handles, names, title=title, title_fontsize=9, **place)
