"""Figures of `experiments.landscape_training`: paths of descent, and stays at saddles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ncjax.plots import COLORS, LOSS_NAMES, MARKERS, save


def draw_paths(curves: pd.DataFrame, stays: pd.DataFrame, path: Path) -> None:
    """Excess objective, gradient norm and effective rank of gradient descent, unequal classes."""
    kind = curves["classes"].iloc[-1]
    curves = curves[(curves["momentum"] == 0) & (curves["classes"] == kind)]
    met = stays[stays["met"] & (stays["classes"] == kind) & (stays["momentum"] == 0)]
    losses = list(dict.fromkeys(curves["loss"]))
    scales = sorted(curves["scale"].unique())
    scales = [scales[0], *scales[2::2]] if len(scales) > 3 else scales
    figure = Figure(figsize=(2.0 * len(losses) + 1.0, 6.2), layout="constrained")
    heights = {"height_ratios": (1.6, 1, 1)}
    axes = figure.subplots(
        3, len(losses), sharex=True, sharey="row", squeeze=False, gridspec_kw=heights
    )
    for column, loss in zip(axes.T, losses, strict=True):
        for number, scale in enumerate(scales):
            line = curves[(curves["loss"] == loss) & (curves["scale"] == scale)]
            for ax, name in zip(column, ("excess", "gradient", "effective_rank"), strict=True):
                style = {"color": COLORS[number], "linewidth": 1.2, "label": f"{scale:g}"}
                ax.plot(line["after"] + 1, line[name], **style)
        levels = met[met["loss"] == loss].groupby("rank")["excess"].median()
        for rank, level in levels.items():
            column[0].axhline(level, color="0.6", linestyle="--", linewidth=0.7, zorder=0)
            column[0].annotate(
                f"{int(rank)}",
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(2, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
            )
        column[0].set(xscale="log", yscale="log", title=LOSS_NAMES[loss])
        column[1].set_yscale("log")
        column[2].set_xlabel("step")
    axes[0, 0].set(ylabel=r"objective excess $f - f^\star$", ylim=(1e-4, None))
    axes[1, 0].set(ylabel="gradient norm", ylim=(1e-7, None))
    axes[2, 0].set_ylabel("effective rank of W")
    handles, names = axes[0, 0].get_legend_handles_labels()
    title = "typical norm of a row at the start; dashed: certified saddles, with their rank"
    place = {"loc": "outside lower center", "ncols": len(names), "title_fontsize": 9}
    figure.legend(handles, names, title=title, **place)
    save(figure, path)


def draw_growth(stays: pd.DataFrame, path: Path) -> None:
    """Growth and length of every stay, measured against exact."""
    met = stays[stays["met"]]
    rate, exact = np.log(met["growth"]), np.log(met["exact_growth"])
    figure = Figure(figsize=(9.0, 3.3), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = [
        (exact, rate, "exact growth a step (log)", "measured growth a step (log)"),
        (met["closest"], (rate / exact - 1).abs(), "closest distance / norm of minimiser", None),
        (met["exact_dwell"], met["dwell"], "predicted steps near the saddle", "measured steps"),
    ]
    for ax, (x, y, across, up) in zip(axes, panels, strict=True):
        for rank in sorted(met["rank"].unique()):
            for momentum in sorted(met["momentum"].unique()):
                chosen = (met["rank"] == rank) & (met["momentum"] == momentum)
                color, marker = COLORS[int(rank) % 7], MARKERS[int(rank) % 7]
                face = color if momentum == 0 else "none"
                label = f"rank {int(rank)}" if momentum == 0 else None
                style = {"color": color, "marker": marker, "facecolor": face, "label": label}
                ax.scatter(x[chosen], y[chosen], s=18, linewidths=0.8, **style)
        ax.set(xscale="log", yscale="log", xlabel=across)
        if up:
            low, high = ax.get_xlim()
            ax.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
            ax.set_ylabel(up)
    axes[1].set_ylabel("relative error of the growth")
    handles, names = axes[0].get_legend_handles_labels()
    title = "saddle of rank; filled: gradient descent, open: momentum"
    place = {"loc": "outside lower center", "ncols": len(names), "title_fontsize": 9}
    figure.legend(handles, names, title=title, **place)
    save(figure, path)
