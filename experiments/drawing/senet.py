"""Figures of the experiments with subspace clustering."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.drawing.redunet import TITLES, cosines
from ncjax.plots import COLORS, MARKERS, STYLE, save

SCORES = {"accuracy": "ACC", "nmi": "NMI", "ari": "ARI"}
LEVELS = {"neighbours": "--", "k-means": ":"}


def scores(table: pd.DataFrame, path: Path) -> None:
    """Scores and time against N, a row of panels a data set; others that clustered all as lines.

    Args:
        table: rows of `experiments.senet_images.clustered`.
        path: where the PNG goes.
    """
    names = list(dict.fromkeys(table["data"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.1 * len(names) + 0.5), layout="constrained")
        for row, name in zip(figure.subplots(len(names), 4, squeeze=False), names, strict=True):
            here = table[table["data"] == name]
            here = here[here["clustered"] == here["clustered"].max()]
            for number, (ax, column) in enumerate(zip(row, [*SCORES, "seconds"], strict=True)):
                by_size = here[here["method"] == "SENet"].groupby("trained")[column]
                mean, deviation = by_size.mean(), by_size.std() if number < 3 else None
                style = {"color": COLORS[0], "marker": MARKERS[0], "capsize": 2}
                ax.errorbar(mean.index, mean, deviation, **style, label="SENet")
                for method, dashes in LEVELS.items():
                    level = here[here["method"] == method][column].mean()
                    label = {"neighbours": "nearest neighbours"}.get(method, method)
                    ax.axhline(level, color="0.3", linestyle=dashes, label=label)
                ax.set(xscale="log", xlabel="training points")
                ax.set_xticks(mean.index, [f"{size:,}" for size in mean.index])
                ax.set_xticks([], minor=True)
                if number < 3:
                    ax.set(ylim=(0, 1), ylabel=SCORES[column])
                else:
                    ax.set(yscale="log", ylabel="seconds to cluster all")
            row[0].set_title(TITLES.get(name, name), loc="left")
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        save(figure, path)


def affinities(paths: Mapping[str, Path], path: Path) -> None:
    """Affinities of points ordered by class, over the 0.95 quantile of those that are not zero.

    Args:
        paths: of what `experiments.senet_images` keeps, by data set.
        path: where the PNG goes.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(paths) + 0.8, 3.0), layout="constrained")
        axes = figure.subplots(1, len(paths), squeeze=False)[0]
        for ax, (name, where) in zip(axes, paths.items(), strict=True):
            with np.load(where) as found:
                affinity, labels = found["affinity"], found["labels"]
            shown = np.minimum(affinity / np.quantile(affinity[affinity > 0], 0.95), 1)
            image = cosines(ax, shown, labels)
            ax.set_title(TITLES.get(name, name))
            ax.set(xlabel="class", ylabel="class")
        figure.colorbar(image, ax=axes, label="affinity / its 0.95 quantile")
        save(figure, path)
