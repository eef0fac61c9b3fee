"""The atlas: are all critical points of the unconstrained feature model global minima or saddles?

Claims (2105.02375, 2203.01238, 2210.02192): with d > K every critical point that is no global
minimiser is a strict saddle, under cross entropy, MSE and label smoothing; for the focal loss,
which is not convex, that is stated near the minimisers only. Every point that structured Newton
finds is certified: a rigorous gap, the exact Morse index, the escape eigenvalue. Tested on all of
them beside the claims: the *index law*, that a saddle's index is what its unused dimensions alone
account for, #{sigma > mu} (d - rank), and the *escape law*, that no eigenvalue lies below the
escape eigenvalue. For convex losses the latter is a theorem, and the index is at least that of the
law and at most #{sigma > mu} d (both derived here; `ncjax.ufm.certificate`).

    python -m experiments.landscape_atlas --preset cpu

Expected (preset cpu; ten minutes on two cores): of 128,192 points all are strict saddles or
minimisers at the best symmetric value, but for 381 from which the direct search for saddles did not
converge in 200 steps. Both laws hold at all 88,756 saddles that are minima within their rank; of
those found directly two fifths have a larger index than the law says, up to 12 more, and none has
an eigenvalue below the escape value.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal

import jax
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncjax import parallel, plots, runs, ufm

_CONVEX = ("cross_entropy", "label_smoothing", "mse")
_DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_SHORT = (3e-4, 3e-3)

PRESETS: dict[str, dict[str, ufm.Grid]] = {
    "smoke": {
        "within a rank": ufm.Grid(
            losses=("cross_entropy",),
            num_classes=(3,),
            feature_dim=(4,),
            samples_per_class=(2, 9),
            lambda_h=_SHORT,
            starts=2,
        ),
        "any index": ufm.Grid(
            losses=("cross_entropy",),
            num_classes=(3,),
            feature_dim=(4,),
            samples_per_class=(2,),
            lambda_w=(3e-3,),
            lambda_h=(3e-4,),
            aims=("critical_point",),
            ranks=(2,),
            starts=16,
            start_scale=2.0,
        ),
    },
    "cpu": {
        # Every rank, through problems of all kinds: few starts, many decays and sizes.
        "within a rank": ufm.Grid(
            losses=_CONVEX,
            num_classes=(3, 5, 8),
            feature_dim=(9, 12),
            samples_per_class=(1, 5, 25),
            lambda_w=_DECAYS,
            lambda_h=_DECAYS,
            lambda_b=(0.0, 1e-2),
            scale=(1.0, 5.0),
            starts=3,
        ),
        "within a rank, focal": ufm.Grid(
            losses=("focal",),
            num_classes=(3, 5, 8),
            feature_dim=(9,),
            samples_per_class=(2,),
            lambda_w=_DECAYS,
            lambda_h=_DECAYS,
            lambda_b=(0.0, 1e-2),
            gamma=(1.0, 2.0, 3.0),
            starts=3,
        ),
        # Saddles of any index directly, in all dimensions at once, from large random starts.
        "any index": ufm.Grid(
            num_classes=(3, 5, 8),
            feature_dim=(9,),
            samples_per_class=(2,),
            lambda_w=_SHORT,
            lambda_h=_SHORT,
            lambda_b=(0.0, 1e-2),
            aims=("critical_point",),
            starts=40,
            start_scale=2.0,
        ),
        "unequal classes": ufm.Grid(
            losses=_CONVEX,
            num_classes=(4, 6),
            feature_dim=(9,),
            samples_per_class=(10, 30),
            imbalance=(2.0, 10.0),
            lambda_w=_DECAYS,
            lambda_h=_SHORT,
            starts=10,
        ),
    },
}
# Ten times the starts: a million points, for an afternoon of an accelerator's host.
PRESETS["accelerator"] = {
    name: dataclasses.replace(grid, starts=10 * grid.starts)
    for name, grid in PRESETS["cpu"].items()
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_atlas"),
    memory: float = 0.25,
) -> None:
    """Sweep, certify, count the exceptions, and write tables and figures.

    Args:
        preset: how much.
        run: folder for everything; the same command goes on where a killed one stopped.
        memory: GiB for the working arrays of one compiled call.
    """
    started = time.perf_counter()
    parallel.use_all_cores()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    parts = []
    for name, grid in PRESETS[preset].items():
        print(name)
        with jax.enable_x64(True):
            part = ufm.landscape(grid, run / name.replace(" ", "_").replace(",", ""), memory=memory)
        parts.append(part.assign(search=name))
    table = relative(pd.concat(parts, ignore_index=True))
    seconds = time.perf_counter() - started
    report(table, run)
    print(f"{len(table)} points, {seconds:.0f} s. written: {run}")


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Adds `excess` and `share`, objective and index relative to those of the problem's origin.

    The best point has 0, the origin 1. And `first`, whether no earlier row of the problem has the
    same rank, index and objective.
    """
    problem = [name for name in plots.PROBLEM if name in table]
    keys = [table[name].fillna(-1) for name in problem]
    value, at_origin = table["objective"], table["rank"] == 0
    best = table["theory_value"].fillna(value.groupby(keys).transform("min"))
    origin, index = (
        table[name].where(at_origin).groupby(keys).transform("min")
        for name in ("objective", "negative")
    )
    same = table[[*problem, "rank", "negative"]].assign(value=(value / best).round(9))
    return table.assign(
        excess=(value - best) / (origin - best).where(index > 0),
        share=table["negative"] / index.where(index > 0),
        first=~same.fillna(-1).duplicated(),
    )


def report(table: pd.DataFrame, run: Path) -> None:
    """Tables and figures from the points."""
    figures = run / "figures"
    figures.mkdir(exist_ok=True)
    verdicts, laws, rest = by_verdict(table), by_law(table), exceptions(table)
    for name, found in {"verdicts": verdicts, "laws": laws, "exceptions": rest}.items():
        runs.write_atomically(run / f"{name}.csv", found.to_csv())
        print(f"\n{name}\n{found.to_string()}")
    atlas(table, figures / "atlas.png")
    index_law(table, figures / "index_law.png")


def by_verdict(table: pd.DataFrame) -> pd.DataFrame:
    """Per loss: what the points are, how near the worst comes to failing."""
    rows = {}
    for loss, points in table.groupby("loss", sort=False):
        counts = points["verdict"].value_counts()
        saddles = points[points["verdict"] == "strict_saddle"]
        unit = np.sqrt(saddles["lambda_w"] * saddles["lambda_h"])
        rows[loss] = {
            "points": len(points),
            "different": int(points["first"].sum()),
            "strict saddles": counts.get("strict_saddle", 0),
            "global minima": counts.get("global_minimizer", 0),
            "symmetric minima": counts.get("symmetric_minimum", 0),
            "other local minima": counts.get("local_minimum", 0),
            "inconclusive": counts.get("inconclusive", 0),
            "not converged": counts.get("not_critical", 0),
            "worst gap": points.loc[points["verdict"] == "global_minimizer", "gap"].max(),
            "flattest saddle, eigenvalue / mu": (saddles["escape_value"] / unit).max(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def by_law(table: pd.DataFrame) -> pd.DataFrame:
    """Per search and loss: how the saddles' exact indices compare with the two laws."""
    saddles = table[table["verdict"] == "strict_saddle"]
    law, d = saddles["escape_dimension"], saddles["feature_dim"]
    extra, most = saddles["negative"] - law, law * d / (d - saddles["rank"])
    found = saddles.assign(
        beyond=(extra > 0).astype(int),
        outside=((extra < 0) | (saddles["negative"] > most + 0.5)).astype(int),
        extra=extra,
        deeper=(saddles["below_escape"] > 0).astype(int),
    ).groupby(["search", "loss"], sort=False)
    return pd.DataFrame(
        {
            "saddles": found.size(),
            "index above the law": found["beyond"].sum(),
            "by at most": found["extra"].max(),
            "index out of its bounds": found["outside"].sum(),
            "eigenvalue below the escape value": found["deeper"].sum(),
        }
    )


def exceptions(table: pd.DataFrame) -> pd.DataFrame:
    """Points that are neither a strict saddle nor a minimum of a known kind."""
    known = ("strict_saddle", "global_minimizer", "symmetric_minimum")
    columns = [name for name in plots.PROBLEM if name in table]
    columns += ["search", "rank", "negative", "zero", "gradient_norm", "steps", "gap", "verdict"]
    return table.loc[~table["verdict"].isin(known), columns]


def atlas(table: pd.DataFrame, path: Path) -> None:
    """Objective against index, and against the smallest eigenvalue known, one column a loss."""
    shown = table[table["excess"].notna() & (table["verdict"] != "not_critical")]
    K, d = shown["num_classes"], shown["feature_dim"]
    shown = shown.assign(
        index=shown["negative"] / ((K - 1) * d),
        curvature=shown["escape_value"].clip(upper=0)
        / np.sqrt(shown["lambda_w"] * shown["lambda_h"]),
    )
    losses = list(dict.fromkeys(shown["loss"]))
    ranks = np.arange(shown["rank"].max() + 1)
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.95, len(ranks)))
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(2.1 * len(losses) + 1.2, 4.6), layout="constrained")
        axes = figure.subplots(2, len(losses), sharex=True, sharey="row", squeeze=False)
        for column, loss in zip(axes.T, losses, strict=True):
            points = shown[shown["loss"] == loss]
            for ax, name in zip(column, ("share", "curvature"), strict=True):
                _by_rank(ax, points, name, ranks, colors)
            column[0].set_title(plots.LOSS_NAMES.get(loss, loss))
            column[1].set_yscale("symlog", linthresh=1)
            column[1].set_ylim(2 * shown["curvature"].min(), 0.5)
            column[1].set_xlabel(r"$(f - f^\star)\,/\,(f_0 - f^\star)$")
        axes[0, 0].set_ylabel("Morse index / that of the origin")
        axes[1, 0].set_ylabel(r"escape eigenvalue / $\mu$")
        handles, names = axes[0, 0].get_legend_handles_labels()
        legend = figure.legend(handles, names, title="rank of W", loc="outside right center")
        for handle in legend.legend_handles:
            handle.set_alpha(1)
            handle.set_sizes([20])
        plots.save(figure, path)


def _by_rank(
    ax: Axes, points: pd.DataFrame, name: str, ranks: np.ndarray, colors: np.ndarray
) -> None:
    for rank in ranks:
        some = points[points["rank"] == rank]
        ax.scatter(
            some["excess"], some[name], s=4, color=colors[rank], alpha=0.4, linewidths=0, label=rank
        )
    ax.axhline(0, color="0.6", linewidth=0.6, zorder=0)


def index_law(table: pd.DataFrame, path: Path) -> None:
    """The exact index of every saddle against the law, one panel a search."""
    saddles = table[table["verdict"] == "strict_saddle"]
    searches, losses = (list(dict.fromkeys(saddles[name])) for name in ("search", "loss"))
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(2.5 * len(searches) + 0.5, 2.9), layout="constrained")
        axes = figure.subplots(1, len(searches), sharex=True, sharey=True, squeeze=False)[0]
        for ax, search in zip(axes, searches, strict=True):
            here = saddles[saddles["search"] == search]
            for loss, points in here.groupby("loss", sort=False):
                number = losses.index(loss)
                ax.scatter(
                    points["escape_dimension"],
                    points["negative"],
                    s=14,
                    facecolors="none",
                    edgecolors=plots.COLORS[number],
                    marker=plots.MARKERS[number],
                    linewidths=0.8,
                    label=plots.LOSS_NAMES.get(loss, loss),
                )
            ax.axline((1, 1), slope=1, color="0.6", linewidth=0.6, zorder=0)
            ax.set_title(search)
            ax.set_xlabel(r"law: $\#\{\sigma > \mu\}\,(d - \mathrm{rank})$")
            ax.legend(loc="upper left", handletextpad=0.1)
        axes[0].set_ylabel("exact Morse index")
        plots.save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
