"""Figures from tables and run folders, never from live objects: any of them can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ncjax import curvature, runs

# Okabe and Ito's colours, told apart with every kind of colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LOSS_NAMES = {
    "cross_entropy": "cross entropy",
    "label_smoothing": "label smoothing",
    "focal": "focal",
    "mse": "MSE",
}
# The columns of a landscape table that tell its problems apart.
PROBLEM = ("loss", "num_classes", "feature_dim", "samples_per_class", "minority_samples")
PROBLEM += ("lambda_w", "lambda_h", "lambda_b", "smoothing", "gamma", "scale", "target")
PROBLEM += ("epsilon", "margin", "temperature")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 200,
}


def critical_points(table: pd.DataFrame, path: Path) -> None:
    """Every critical point of a sweep: objective against smallest Hessian eigenvalue, by rank.

    One panel a loss. The objective is taken relative to f*, the best symmetric configuration of
    the point's own problem (where there is none, in too few dimensions, the best point found), and
    the eigenvalue to mu = sqrt(lambda_w lambda_h), so that all problems of a grid share the axes.

    Args:
        table: from `ncjax.ufm.landscape`. Without dense spectra the escape value stands for the
            smallest eigenvalue, which it is where `below_escape` is 0; at minima it is at most 0.
        path: where the PNG goes.
    """
    problem = [name for name in PROBLEM if name in table]
    found = table.groupby(problem, dropna=False)["objective"].transform("min")
    smallest = table["escape_value"].clip(upper=0)
    if "smallest_eigenvalue" in table:
        smallest = table["smallest_eigenvalue"].fillna(smallest)
    shown = table.assign(
        excess=table["objective"] / table["theory_value"].fillna(found) - 1,
        curvature=smallest / np.sqrt(table["lambda_w"] * table["lambda_h"]),
    )
    kinds = list(dict.fromkeys(shown["loss"]))
    ranks = sorted(shown["rank"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.0 * len(kinds) + 1.3, 2.7), layout="constrained")
        axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for ax, loss in zip(axes, kinds, strict=True):
            for number, rank in enumerate(ranks):
                points = shown[(shown["loss"] == loss) & (shown["rank"] == rank)]
                color, marker = COLORS[number % 7], MARKERS[number % 7]
                ax.scatter(
                    points["excess"],
                    points["curvature"],
                    s=16,
                    color=color,
                    marker=marker,
                    alpha=0.7,
                    linewidths=0,
                    label=f"{rank}",
                )
            ax.axhline(0, color="0.6", linewidth=0.6, zorder=0)
            ax.set_xscale("symlog", linthresh=0.1)
            ax.set_yscale("symlog", linthresh=1)
            widest = shown.loc[shown["loss"] == loss, "excess"].max()
            ax.set_xlim(-0.02, 2 * max(widest, 0.05))
            ax.set_title(LOSS_NAMES.get(loss, loss))
            ax.set_xlabel(r"objective excess $f/f^\star - 1$")
        axes[0].set_ylabel(r"smallest Hessian eigenvalue / $\mu$")
        axes[0].set_ylim(2 * min(shown["curvature"].min(), -0.1), 0.5)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, title="rank of W", loc="outside right center")
        save(figure, path)


def collapse_curves(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """NC1 to NC4 against the epoch, one line a run.

    Args:
        tables: metrics by the run's name; names of losses are spelled out.
        path: where the PNG goes.
    """
    panels = {
        "nc1_pinv": "NC1: variability within classes\n" + r"$\mathrm{tr}(\Sigma_W\Sigma_B^+)/K$",
        "nc2_means": "NC2: class means\ndistance to a simplex ETF",
        "nc3_self_duality": "NC3: self-duality\n" + r"$\|W/\|W\|_F - M/\|M\|_F\|_F^2$",
        "nc4_disagreement": "NC4: not in the class\nof the nearest mean",
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 2.7), layout="constrained")
        for ax, (column, title) in zip(figure.subplots(1, 4), panels.items(), strict=True):
            for number, (name, table) in enumerate(tables.items()):
                table = table.assign(nc4_disagreement=1 - table["nc4_agreement"])
                _curve(ax, table, column, LOSS_NAMES.get(name, name), number)
            ax.set_title(title)
            ax.set_xlabel("epoch")
            ax.set_xscale("log")
            if column == "nc4_disagreement":
                ax.set_yscale("symlog", linthresh=1e-3)
                ax.set_ylim(-1e-4, 1.5 * ax.dataLim.y1)
            else:
                ax.set_yscale("log")
                _label_few_decades(ax.yaxis)
        handles, names = ax.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(tables))
        save(figure, path)


def gram_matrices(means: Mapping[str, np.ndarray], path: Path) -> None:
    """Cosines of the centred class means, one panel a run, beside those of a simplex ETF.

    Args:
        means: class means `[K, d]` by the run's name, K alike.
        path: where the PNG goes.
    """
    panels = {LOSS_NAMES.get(name, name): _cosines(rows) for name, rows in means.items()}
    num_classes = len(next(iter(panels.values())))
    etf = np.full((num_classes, num_classes), -1 / (num_classes - 1))
    np.fill_diagonal(etf, 1)
    panels["simplex ETF"] = etf
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.75 * len(panels) + 0.7, 2.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, cosines) in zip(axes, panels.items(), strict=True):
            image = _show_cosines(ax, cosines)
            off_diagonal = cosines[~np.eye(num_classes, dtype=bool)]
            low, high = off_diagonal.min(), off_diagonal.max()
            spread = f"{low:.2f}" if high - low < 5e-3 else f"{low:.2f} to {high:.2f}"
            ax.set_title(f"{title}\n{spread}")
        axes[0].set_ylabel("class")
        figure.colorbar(image, ax=axes, label="cosine of centred class means", shrink=0.9)
        save(figure, path)


def measurement(
    means: np.ndarray, W: np.ndarray | None, margins: np.ndarray | None, path: Path
) -> None:
    """What `ncjax measure` shows: the geometry of the means, of W, and the cosine margins.

    Args:
        means: class means, `[K, d]`.
        W: classifier, `[K, d]`, or None.
        margins: cosine margin of every sample, or None.
        path: where the PNG goes.
    """
    frames = {"centred class means": means} | ({} if W is None else {"centred classifier W": W})
    count = len(frames) + (margins is not None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * count + 0.4, 2.7), layout="constrained")
        axes = figure.subplots(1, count, squeeze=False)[0]
        for ax, (title, rows) in zip(axes, frames.items(), strict=False):
            image = _show_cosines(ax, _cosines(rows))
            ax.set_title(f"{title}\nsimplex ETF: {-1 / (len(rows) - 1):.3f} off the diagonal")
            ax.set_ylabel("class")
            figure.colorbar(image, ax=ax, label="cosine", shrink=0.8)
        if margins is not None:
            ax, best = axes[-1], len(means) / (len(means) - 1)
            ax.hist(margins, np.linspace(min(-0.1, margins.min()), best + 0.1, 51), color=COLORS[0])
            ax.axvline(best, color=COLORS[1], linestyle="--")
            ax.set_yscale("log")
            ax.set_title(f"cosine margin of each sample\ndashed: {best:.3f}, exact collapse")
            ax.set_xlabel("cosine margin")
            ax.set_ylabel("samples")
        save(figure, path)


def spectral_densities(blocks: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """The spectral density of each block: logarithmic, with single eigenvalues marked.

    The curve is the smoothed quadrature, the ticks below it are its Ritz values, triangles mark the
    eigenpairs that were found at the two ends.

    Args:
        blocks: as in `spectrum.json`, by the block's name.
        path: where the PNG goes.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.4 * len(blocks) + 0.3), layout="constrained")
        axes = figure.subplots(len(blocks), 1, squeeze=False)[:, 0]
        for ax, (name, block) in zip(axes, blocks.items(), strict=True):
            _density(ax, name, block)
        axes[-1].set_xlabel("eigenvalue of the Hessian")
        axes[0].legend(loc="upper right")
        save(figure, path)


def _density(ax: Axes, name: str, block: Mapping[str, Any]) -> None:
    values = np.array(block["eigenvalues"])
    nodes, weights = (np.array(block.get(part, [])) for part in ("nodes", "weights"))
    low, high = (f(np.concatenate([values, nodes.ravel()])) for f in (np.min, np.max))
    span = high - low or abs(high) or 1.0
    width = span / 150
    single = 1 / (block["parameters"] * width * np.sqrt(2 * np.pi))
    floor = single / 30
    if nodes.size:
        grid = np.linspace(low - 6 * width, high + 6 * width, 1500)
        density = curvature.SpectralDensity(
            *map(jnp.asarray, (nodes, weights)), block["parameters"]
        )
        curve = np.asarray(density.smooth(grid, float(width)))
        ax.plot(grid, np.maximum(curve, floor / 10), color=COLORS[0], linewidth=1, label="density")
        ax.plot(
            nodes.ravel(),
            np.full(nodes.size, floor * 1.3),
            "|",
            color="0.45",
            markersize=6,
            markeredgewidth=0.5,
            label="Ritz values",
        )
        ax.set_ylim(floor, 4 * curve.max())
    for part, marker, color, label in [
        (values < 0, "v", COLORS[1], "eigenpairs, negative"),
        (values >= 0, "^", COLORS[2], "eigenpairs, positive"),
    ]:
        ax.plot(values[part], np.full(part.sum(), single), marker, color=color, ms=4, label=label)
    ax.axvline(0, color="0.7", linewidth=0.6, zorder=0)
    ax.set_yscale("log")
    ax.set_ylabel("density")
    ax.set_title(f"{name}: {block['parameters']:,} parameters", loc="left")


def label_issues(
    table: pd.DataFrame, images: np.ndarray, path: Path, *, shown: int = 24, names: Any = None
) -> None:
    """The images whose labels are the most suspicious.

    Args:
        table: from `ncjax.sop.label_issues`, the most suspicious first; a column `row`, where there
            is one, says which image a sample is.
        images: `[N, H, W]` or `[N, H, W, C]`, uint8, or floats that are scaled to what is shown.
        path: where the PNG goes.
        shown: how many.
        names: of the classes; numbers if None.
    """
    rows = table.head(shown)
    columns = 8
    lines = -(-len(rows) // columns)
    name = (lambda k: f"{k}") if names is None else (lambda k: names[k])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 1.25 * lines + 0.4), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, issue in zip(axes, rows.to_dict("records"), strict=False):
            image = np.squeeze(images[issue.get("row", issue["sample"])])
            ax.imshow(image, cmap="gray")
            ax.set_title(f"{name(issue['given'])} → {name(issue['suggested'])}", fontsize=8)
        figure.suptitle("labels: given → suggested", fontsize=9)
        save(figure, path)


def training_figures(folders: Mapping[str, Path], target: Path) -> list[Path]:
    """The curves and Gram matrices of finished training runs.

    Args:
        folders: run folders by name.
        target: the folder for the figures.

    Returns:
        The files written.
    """
    target.mkdir(parents=True, exist_ok=True)
    curves, gram = target / "collapse_curves.png", target / "class_means.png"
    collapse_curves({name: runs.read_metrics(folder) for name, folder in folders.items()}, curves)
    gram_matrices(
        {name: np.load(folder / "collapse.npz")["means"] for name, folder in folders.items()}, gram
    )
    return [curves, gram]


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG that depends on nothing but what is drawn.

    Args:
        figure: the figure.
        path: where the PNG goes.
    """
    figure.draw_without_rendering()  # a first layout, without which legends outside cut labels off
    figure.savefig(path, metadata={"Software": None})


def _label_few_decades(axis: Axis) -> None:
    """Numbers at 2 and 5 too where a logarithmic axis spans less than two decades."""
    low, high = axis.get_view_interval()
    few = high < 100 * low
    axis.set_minor_formatter(
        FuncFormatter(lambda x, _: f"{x:.2g}" if few and f"{x:e}"[0] in "25" else "")
    )


def _curve(ax: Axes, table: pd.DataFrame, column: str, name: str, number: int) -> None:
    ax.plot(
        table["epoch"],
        table[column],
        color=COLORS[number % 7],
        marker=MARKERS[number % 7],
        markevery=max(1, len(table) // 8),
        markersize=3.5,
        linewidth=1.2,
        label=name,
    )


def _show_cosines(ax: Axes, cosines: np.ndarray) -> AxesImage:
    image = ax.imshow(cosines, cmap="cividis", vmin=-0.5, vmax=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("class")
    return image


def _cosines(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(norms > 0, norms, 1)  # a vector without direction has cosine 0
    return unit @ unit.T
