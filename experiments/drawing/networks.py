"""What the figures of the experiments with networks share."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd

from ncjax.plots import COLORS, LOSS_NAMES, MARKERS


def by_loss(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each loss by its title, in the order that all figures have."""
    groups = dict(iter(table.groupby("loss")))
    return {title: groups[loss] for loss, title in LOSS_NAMES.items() if loss in groups}


def over_seeds(
    ax: mpl.axes.Axes,
    curves: Mapping[str, pd.DataFrame],
    x: str,
    column: str,
    title: str,
    scale: str | None = None,
) -> None:
    """Means over seeds against what was varied; bars from the least to the largest.

    Args:
        ax: to draw on.
        curves: the last measurements of runs, by their label.
        x: the column that was varied.
        column: the column that was measured.
        title: of the vertical axis.
        scale: of the horizontal axis, as "linear"; its values evenly spaced if None.
    """
    values = sorted({value for rows in curves.values() for value in rows[x]})
    for (label, rows), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
        groups = rows.groupby(x)[column]
        mean, bars = groups.mean(), (groups.mean() - groups.min(), groups.max() - groups.mean())
        style = {"color": color, "marker": marker, "markersize": 4, "capsize": 2}
        places = mean.index if scale else [values.index(value) for value in mean.index]
        ax.errorbar(places, mean, bars, label=label, **style)
    if scale:
        ax.set_xscale(scale)
    else:
        ax.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    ax.set_ylabel(title)
