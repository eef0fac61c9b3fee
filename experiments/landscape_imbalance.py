r"""Step imbalance: where the minority classes merge, and the geometry that vanishing decay leaves.

Half of the K classes have n samples each and the other half n / R (not rounded: sizes only weigh
the loss). Three claims are tested at certified global minimisers, found by structured Newton from
one random start each:

1. The minority's rows of W merge exactly from the ratio R* on that `ufm.collapse_ratio` gives, for
   cross entropy, label smoothing and MSE, with and without decay of the bias. R* is also measured,
   by bisection, without use of the formula.
2. As the decay of W and H vanishes, cross entropy and label smoothing approach the SELI geometry
   (2208.05512), at rates 1 / log(1 / lambda) and lambda.
3. Without decay of the bias that geometry is another one, which MSE shares (`ufm.seli`); with it,
   MSE goes elsewhere.

    python -m experiments.landscape_imbalance --run runs/landscape_imbalance

Expected (preset cpu): all 990 points are certified global minimisers, none on the wrong side of
its R*; the 18 bisected thresholds agree with the exact ones to 3e-6. Beyond R* the merged rows soon
vanish altogether, and with them the angle. 20 s on two cores.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
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

from experiments.tables import kept, markdown
from ncjax import parallel, progress, runs, ufm
from ncjax.curvature import Verdict
from ncjax.plots import COLORS, LOSS_NAMES, MARKERS, STYLE, save

WIDEST = 1e5
"""Bisection begins between R = 1 and this ratio."""
MERGED = 1e-4
"""Two rows have merged if they are nearer than this share of the distance in the majority."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is swept.

    Attributes:
        losses: names from `ncjax.losses`, with their default hyperparameters.
        num_classes: K = d, half of them (rounded up) the majority.
        samples: n, of each class of the majority.
        decays: lambda_w = lambda_h where the ratio is swept.
        bias_decays: lambda_b.
        ratios: points of the sweep over R, from 1 to 1e4.
        bisections: steps of each bisection.
        vanishing: points of the sweep over lambda_w = lambda_h from 1e-3 to 1e-7.
        seli_ratios: R where the decay is swept.
        chunk: problems in one compiled call.
    """

    losses: tuple[str, ...] = ("cross_entropy", "label_smoothing", "mse")
    num_classes: int = 10
    samples: int = 1000
    decays: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3)
    bias_decays: tuple[float, ...] = (0.0, 1e-2)
    ratios: int = 49
    bisections: int = 36
    vanishing: int = 9
    seli_ratios: tuple[float, ...] = (10.0, 100.0)
    chunk: int = 8


PRESETS = {
    "smoke": Config(
        losses=("cross_entropy", "mse"),
        num_classes=4,
        samples=100,
        decays=(5e-3,),
        bias_decays=(1e-2,),
        ratios=9,
        bisections=14,
        vanishing=5,
        seli_ratios=(10.0,),
    ),
    "cpu": Config(),
    "accelerator": Config(
        num_classes=30,
        decays=(1e-4, 2.5e-4, 5e-4, 1e-3),
        ratios=97,
        vanishing=17,
        chunk=128,
    ),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_imbalance"),
) -> None:
    """Sweep, bisect, and write tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder; a run that was killed goes on, and a finished one draws its figures again.
    """
    parallel.use_all_cores()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    config = PRESETS[preset]
    runs.open_run(run, config)
    with jax.enable_x64(True):
        parts = list(pieces(config))
        made = {
            name: kept(run / "parts" / f"{'-'.join(name)}.csv", work)
            for name, work in progress.bar(parts, desc="imbalance", unit=" sweeps")
        }
    tables = {
        sweep: pd.concat([table for (kind, _), table in made.items() if kind == sweep])
        for sweep in ("ratios", "thresholds", "vanishing")
    }
    summaries = summarize(tables)
    for name, table in summaries.items():
        runs.write_atomically(run / f"{name}.csv", table.to_csv(index=False))
        print(f"\n{name}\n{table.to_string(index=False, float_format=lambda x: f'{x:.4g}')}")
    text = "\n\n".join(markdown(table.set_index("loss")) for table in summaries.values())
    runs.write_atomically(run / "summary.md", text + "\n")
    draw(tables, run / "figures")
    print(f"written: {run}")


# The sweeps


def pieces(config: Config) -> Iterator[tuple[tuple[str, str], Callable[[], pd.DataFrame]]]:
    """The name and the work of every sweep."""
    for loss in config.losses:
        yield ("ratios", loss), functools.partial(over_ratios, config, loss)
        yield ("thresholds", loss), functools.partial(bisected, config, loss)
        yield ("vanishing", loss), functools.partial(over_vanishing_decay, config, loss)


def over_ratios(config: Config, loss: str) -> pd.DataFrame:
    """One loss over R, for every decay."""
    ratios = np.geomspace(1, 1e4, config.ratios)
    return solved(config, loss, product(config.decays, config.bias_decays, ratios))


def over_vanishing_decay(config: Config, loss: str) -> pd.DataFrame:
    """One loss over the decay of W and H, for a few ratios."""
    decays = np.geomspace(1e-3, 1e-7, config.vanishing)
    return solved(config, loss, product(decays, config.bias_decays, config.seli_ratios))


def bisected(config: Config, loss: str) -> pd.DataFrame:
    """The ratio at which the minority merges, found by bisection on log R, beside the exact one."""
    items = product(config.decays, config.bias_decays, [1.0])
    low, high = np.zeros(len(items["ratio"])), np.full(len(items["ratio"]), np.log(WIDEST))
    ends = [solved(config, loss, items | {"ratio": np.exp(at)}) for at in (low, high)]
    certified = np.logical_and(*(table["certified"].to_numpy() for table in ends))
    bracketed = ~has_merged(ends[0]) & has_merged(ends[1])
    for _ in range(config.bisections):
        middle = (low + high) / 2
        table = solved(config, loss, items | {"ratio": np.exp(middle)})
        merged = has_merged(table)
        low, high = np.where(merged, low, middle), np.where(merged, middle, high)
        certified &= table["certified"].to_numpy()
    measured = np.where(bracketed, np.exp((low + high) / 2), np.nan)
    return table.assign(measured=measured, certified=certified)


def has_merged(table: pd.DataFrame) -> np.ndarray:
    """Whether the minority's rows of W are one."""
    return (table["separation"] < MERGED).to_numpy()


def product(*values: Any) -> dict[str, np.ndarray]:
    """Every combination of decays, bias decays and ratios, as columns."""
    columns = np.array(list(itertools.product(*values)), float).T
    return dict(zip(("decay", "bias_decay", "ratio"), columns, strict=True))


def solved(config: Config, loss: str, items: dict[str, np.ndarray]) -> pd.DataFrame:
    """The certified minimisers of many problems, one row each."""
    point = _point(loss, config.num_classes, config.samples)
    found = parallel.sweep(
        point,
        items,
        key=jax.random.key(0),
        chunk=config.chunk,
        together=parallel.together_for_loops(),
    )
    return pd.DataFrame(items | found).assign(loss=loss)


@functools.lru_cache
def _point(loss: str, K: int, samples: int) -> Callable[..., dict[str, jax.Array]]:
    majority = -(-K // 2)

    def point(key: jax.Array, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        decays = item["decay"], item["decay"], item["bias_decay"]
        equal = ufm.Problem(K, K, samples, loss, *decays)
        sizes = jnp.where(np.arange(K) < majority, samples, samples / item["ratio"])
        problem = dataclasses.replace(equal, samples_per_class=sizes)
        found = ufm.solve(ufm.init(key, problem, compact=True), problem, max_steps=1000)
        certificate = ufm.certify(found.params, problem)
        W = found.params.W
        classifier, class_means = ufm.seli_distance(found.params, problem)
        few, many = W[majority:], W[:majority]
        return {
            "cosine": cosine(few, jnp.linalg.norm(many)),
            "separation": farthest(few) / farthest(many),
            "exact": ufm.collapse_ratio(equal, majority),
            "seli_classifier": classifier,
            "seli_class_means": class_means,
            "certified": certificate.verdict == Verdict.GLOBAL_MINIMIZER,
            "gap": certificate.gap / jnp.abs(certificate.objective),
            "rank": certificate.rank,
            "steps": found.steps,
        }

    return point


def cosine(rows: jax.Array, size: jax.Array) -> jax.Array:
    """The mean cosine between two rows; NaN where they vanish beside a size."""
    unit = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    number = len(rows)
    mean = ((unit @ unit.T).sum() - number) / (number * (number - 1))
    return jnp.where(jnp.linalg.norm(rows) > 1e-6 * size, mean, jnp.nan)


def farthest(rows: jax.Array) -> jax.Array:
    """The largest distance between two rows."""
    return jnp.linalg.norm(rows[:, None, :] - rows[None, :, :], axis=-1).max()


# Tables


def summarize(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What was certified and how exact the thresholds are; SELI distances."""
    rows = []
    for loss, found in tables["thresholds"].groupby("loss", sort=False):
        ratios, vanishing = (
            tables[name][tables[name]["loss"] == loss] for name in ("ratios", "vanishing")
        )
        points = pd.concat([ratios, vanishing])
        wrong = has_merged(ratios) != (ratios["ratio"] >= ratios["exact"])
        deviation = (found["measured"] / found["exact"] - 1).abs()
        rows.append(
            {
                "loss": loss,
                "points": len(points),
                "certified global minimisers": int(points["certified"].sum()),
                "largest gap / objective": points["gap"].max(),
                "points on the wrong side of R*": int(wrong.sum()),
                "bisections": len(found),
                "all points certified in": int(found["certified"].sum()),
                "least exact R*": found["exact"].min(),
                "largest exact R*": found["exact"].max(),
                "largest error of a bisected R*": deviation.max(skipna=False),
            }
        )
    vanishing = tables["vanishing"]
    decays = vanishing["decay"].unique()
    distances = []
    for keys, table in vanishing.groupby(["loss", "bias_decay", "ratio"], sort=False):
        row = dict(zip(("loss", "lambda_b", "R"), keys, strict=True))
        for decay in decays[[0, len(decays) // 2, -1]]:
            for name in ("classifier", "class_means"):
                value = table.loc[table["decay"] == decay, f"seli_{name}"].item()
                row[f"{name.replace('_', ' ')}, lambda {decay:.0e}"] = value
        distances.append(row)
    return {"thresholds": pd.DataFrame(rows), "seli": pd.DataFrame(distances)}


# Figures


def draw(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Both figures, from the tables."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        draw_collapse(tables["ratios"], folder / "minority_collapse.png")
        draw_seli(tables["vanishing"], folder / "seli.png")


def draw_collapse(ratios: pd.DataFrame, path: Path) -> None:
    """Cosine and distance in the minority against R, one column a loss, with R* marked."""
    shown = ratios[ratios["bias_decay"] == ratios["bias_decay"].max()]
    losses = list(dict.fromkeys(shown["loss"]))
    figure = Figure(figsize=(2.4 * len(losses) + 0.9, 4.3), layout="constrained")
    axes = figure.subplots(2, len(losses), sharex=True, sharey="row", squeeze=False)
    for column, loss in zip(axes.T, losses, strict=True):
        for number, (decay, table) in enumerate(shown[shown["loss"] == loss].groupby("decay")):
            style = {"color": COLORS[number], "marker": MARKERS[number], "markersize": 3}
            column[0].plot(table["ratio"], table["cosine"], **style, linewidth=1, markevery=3)
            column[1].plot(
                table["ratio"],
                table["separation"],
                **style,
                linewidth=1,
                markevery=3,
                label=rf"$\lambda$ = {decay:g}",
            )
            for ax in column:
                ax.axvline(table["exact"].iloc[0], color=COLORS[number], linestyle=":", linewidth=1)
        column[0].set_title(LOSS_NAMES.get(loss, loss))
        column[1].set_xlabel("imbalance ratio $R$")
        column[1].set_xscale("log")
    axes[0, 0].set_ylabel("cosine between\nminority classifiers")
    axes[1, 0].set_ylabel("distance in the minority /\ndistance in the majority")
    handles, names = axes[1, 0].get_legend_handles_labels()
    handles.append(mpl.lines.Line2D([], [], color="0.4", linestyle=":", linewidth=1))
    figure.legend(
        handles, [*names, "exact $R^*$"], loc="outside lower center", ncols=len(names) + 1
    )
    save(figure, path)


def draw_seli(vanishing: pd.DataFrame, path: Path) -> None:
    """Distance to SELI against the decay, one panel a decay of the bias, at the least ratio."""
    shown = vanishing[vanishing["certified"] & (vanishing["ratio"] == vanishing["ratio"].min())]
    kinds = sorted(shown["bias_decay"].unique(), reverse=True)
    figure = Figure(figsize=(2.9 * len(kinds) + 1.4, 2.9), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for ax, bias_decay in zip(axes, kinds, strict=True):
        table = shown[shown["bias_decay"] == bias_decay]
        for number, (loss, points) in enumerate(table.groupby("loss", sort=False)):
            for name, line in [("classifier", "-"), ("class_means", "--")]:
                ax.plot(
                    points["decay"],
                    points[f"seli_{name}"],
                    line,
                    color=COLORS[number],
                    marker=MARKERS[number],
                    markersize=3,
                    linewidth=1,
                    label=f"{LOSS_NAMES.get(loss, loss)}, {name.replace('_', ' ')}",
                )
        _label_decades(ax)
        free = bias_decay == 0
        ax.set_title("bias without decay" if free else rf"$\lambda_b$ = {bias_decay:g}")
        ax.set_xlabel(r"decay $\lambda_W = \lambda_H$")
    axes[0].set_ylabel("distance to the SELI geometry\n(Gram matrices of unit norm)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    save(figure, path)


def _label_decades(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_xaxis()


if __name__ == "__main__":
    tyro.cli(main)
