"""What the experiments with teacher-guided training share: arms, and settings chosen by validation.

Every arm has the same students, data, labeler, number of updates and size of a batch. Settings are
chosen by the mean accuracy over seeds on images set aside, which no student and no labeler sees;
first the temperature, for distillation alone, then what else an arm has, at that temperature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.networks import experiment, last, spread, trained
from experiments.tables import markdown
from ncjax import plots, runs, tgt, training
from ncjax.plots import COLORS, MARKERS, STYLE
from ncjax.tgt.protocols import given
from ncjax.training import TrainConfig
from ncjax.training.guided import TGTConfig
from ncjax.training.guides import guide_of

KEYS = ("study", "arm", "setting", "seed")
TEMPERATURES = tuple({"temperature": one} for one in (2.0, 4.0, 8.0, 16.0))
RADII = tuple({"radius": one} for one in (0.3, 0.6, 1.0, 1.5))
LENGTHS = (
    {"radius": 0.3, "length": 0.3},
    {"radius": 0.6, "length": 0.6},
    {"radius": 1.0, "length": 1.0},
)
KD = "KD"
Grids = Mapping[str, tuple[dict[str, Any], ...]]
ARMS: Grids = {
    "one-hot": ({"method": "standard"},),
    "logit adjustment": ({"method": "logit_adjustment"},),
    "KD at temperature 1": ({"explore": "none", "temperature": 1.0},),
    KD: tuple({"explore": "none", **one} for one in TEMPERATURES),
    "KD + input noise": tuple({"explore": "input_noise", **one} for one in RADII),
    "KD + mixup": tuple({"explore": "mixup", "alpha": alpha} for alpha in (0.2, 1.0, 4.0)),
    "KD + unlabelled": ({"explore": "none", "unlabelled": 1.0},),
    "TGT prior": ({"explore": "prior"},),
    "TGT random": tuple({"explore": "random", **one} for one in RADII),
    "TGT gradient": tuple({"explore": "gradient", **one} for one in LENGTHS),
}
"""Of each arm, the settings to choose among; in the order of tables."""
WORDS = {
    arm: tuple(one for one in grid if one.get("radius", 1.0) in (0.6, 1.0))
    for arm, grid in ARMS.items()
}
"""For texts, at two radii, as each arm takes longer."""


def tempered(temperature: float, arms: Grids = ARMS) -> Grids:
    """Arms with this temperature where they have none of their own."""
    arms = {**arms, KD: ({"explore": "none"},)}
    return {
        arm: tuple(one if "method" in one else {"temperature": temperature, **one} for one in grid)
        for arm, grid in arms.items()
    }


def student(
    base: TrainConfig, settings: Mapping[str, Any], teacher: Mapping[str, Any]
) -> TrainConfig:
    """A student's run.

    Args:
        base: of all students.
        settings: of an arm: `method`, or fields of `TGTConfig`.
        teacher: fields of `TGTConfig` that name it.
    """
    if "method" in settings:
        return dataclasses.replace(base, **settings)
    return dataclasses.replace(base, method="tgt", tgt=TGTConfig(**{**teacher, **settings}))


def compared(
    name: str,
    bases: Mapping[int, TrainConfig],
    teachers: Mapping[int, Mapping[str, Any]],
    columns: Sequence[str],
    run: Path,
    *,
    finish: Callable[[pd.DataFrame], pd.DataFrame],
    arms: Grids = ARMS,
) -> pd.DataFrame:
    """All arms on one set of data, with tables of them and of their differences.

    Args:
        name: of the data, for what is printed.
        bases: of the students of each seed.
        teachers: fields of `TGTConfig` that name each seed's.
        columns: of the table.
        run: folder for everything.
        finish: adds columns to the last measurements; "tail" is one of them.
        arms: of `ARMS` some, and of their settings.

    Returns:
        The last measurements of each arm at its chosen setting.
    """

    def measured(grids: Grids, stage: str) -> pd.DataFrame:
        configs = {
            (name, arm, number, seed): student(bases[seed], settings, teachers[seed])
            for arm, grid in grids.items()
            for number, settings in enumerate(grid)
            for seed in bases
        }
        if stage == "temperature":
            return last(trained(configs, KEYS, run), KEYS)
        return experiment(stage, configs, KEYS, columns, run, lambda *_: None, finish)

    return reported(name, measured, columns, run, arms)


def reported(
    name: str,
    measured: Callable[[Grids, str], pd.DataFrame],
    columns: Sequence[str],
    run: Path,
    arms: Grids = ARMS,
    decides: str = "validation_accuracy",
) -> pd.DataFrame:
    """Settings chosen in two stages, with tables of the arms and of their differences.

    Args:
        name: of the data, for what is printed.
        measured: the last measurements of arms at all their settings, in a stage, "temperature" or
            "arms".
        columns: of the table; differences are of the first two.
        run: folder for the tables.
        arms: of `ARMS` some, and of their settings.
        decides: the measure by which settings are chosen.

    Returns:
        The last measurements of each arm at its chosen setting.
    """
    first = measured({KD: arms[KD]}, "temperature")
    grids = tempered(arms[KD][chosen(first, decides)["setting"].iloc[0]]["temperature"], arms)
    picked = chosen(measured(grids, "arms"), decides)
    settings = picked.groupby("arm", sort=False)["setting"].first()
    table = spread(picked, ["arm"], columns)
    table.insert(0, "setting", [_worded(grids[arm][number]) for arm, number in settings.items()])
    tables = {"chosen": table}
    tables |= {f"less {base}": paired(picked, columns[:2], base) for base in (KD, "TGT random")}
    for title, one in tables.items():
        path = run / f"{title.replace(' ', '_').lower()}.md"
        runs.write_atomically(path, markdown(one) + "\n")
        print(f"{name}, {title}:\n{markdown(one)}")
    return picked


def _worded(settings: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in settings.items() if isinstance(value, float)}
    return ", ".join(f"{name} {value:g}" for name, value in shown.items()) or "-"


def labeler(config: TrainConfig, folder: Path, **fields: Any) -> dict[str, Any]:
    """Trained, unless it is: fields of `TGTConfig` that name it, with others.

    Args:
        config: of its run.
        folder: of its run.
        fields: others.
    """
    training.train(config, folder, show_progress=False)
    return {"labeler": str(folder), **fields}


def chosen(table: pd.DataFrame, column: str = "validation_accuracy") -> pd.DataFrame:
    """Of each arm the rows of the setting with the largest mean over seeds.

    Args:
        table: the last measurements, with `arm`, `setting` (its place in `ARMS`) and `seed`.
        column: that decides.
    """
    means = table.groupby(["arm", "setting"], sort=False)[column].mean()
    best = means.groupby("arm", sort=False).idxmax()
    kept = table.set_index(["arm", "setting"]).loc[list(best)].reset_index()
    return kept.sort_values("arm", key=lambda arms: arms.map(list(ARMS).index), kind="stable")


def tail(table: pd.DataFrame, classes: Iterable[int], part: str = "test") -> pd.Series:
    """The mean accuracy over some classes."""
    return table[[f"{part}_recall_{k}" for k in classes]].mean(axis=1)


def paired(table: pd.DataFrame, columns: Iterable[str], base: str) -> pd.DataFrame:
    """Differences to an arm, seed by seed: means, and how many standard errors they are from 0.

    Args:
        table: a row an arm and a seed.
        columns: measures.
        base: the arm that others are compared with.
    """
    rows = []
    for column in columns:
        wide = table.pivot(index="seed", columns="arm", values=column)
        off = wide.sub(wide[base], axis=0).drop(columns=base)
        error = off.std() / len(off) ** 0.5
        rows.append(off.mean().rename(f"{column}, difference"))
        rows.append((off.mean() / error).rename(f"{column}, in standard errors"))
    return pd.concat(rows, axis=1)


def disagreements(run: Path, count: int = 500) -> tuple[pd.DataFrame, np.ndarray]:
    """How far a student is from its labeler where it was not trained, and images on the way there.

    Args:
        run: of a student of arm "TGT gradient".
        count: of seeds, from the end of its training set's classes.

    Returns:
        A row for real images, for noise in the latent space, and for each step up the gradient,
        with the mean `disagreement` and its standard error; and images of ten seeds, a row for each
        of these, `[rows, 10, ...]`.
    """
    trained = training.load_run(run)
    config, dataset = trained.config.tgt, trained.dataset
    guide, own = guide_of(trained.config, dataset), training.labeler_of(trained)
    order = np.argsort(-dataset.labels, kind="stable")[:count]
    x, labels = jnp.asarray(dataset.unit(dataset.images[order])), dataset.labels[order]
    keys, generator = jax.random.split(jax.random.key(0), len(x)), given(guide.generator, labels)
    noise = {"radius": config.radius, "bound": config.bound}
    climb = {"length": config.length, "temperature": config.temperature, **noise}
    images = {"real": x, "random": tgt.random(keys, x, generator, **noise).x}
    for steps in range(1, config.steps + 1):
        found = tgt.gradient(keys, x, generator, own, guide.labeler, steps=steps, **climb)
        images[f"step {steps}"] = found.x
    rows = []
    for name, points in images.items():
        values = np.asarray(tgt.disagreement(own(points), guide.labeler(points)))
        error = values.std() / np.sqrt(len(values))
        rows.append({"images": name, "disagreement": values.mean(), "error": error})
    tenth = np.linspace(0, len(x) - 1, 10).astype(int)
    return pd.DataFrame(rows), np.stack([np.asarray(points)[tenth] for points in images.values()])


def draw_path(table: pd.DataFrame, images: np.ndarray, path: Path) -> None:
    """Images along the ascent, a row a step, beside their disagreement."""
    images = images.squeeze(-1) if images.shape[-1] == 1 else images
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.62 * len(images) + 0.8), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(1.0, 2.2))
        ax = left.subplots()
        bars = {"xerr": table["error"], "color": COLORS[0], "capsize": 2}
        ax.barh(table["images"], table["disagreement"], **bars)
        ax.invert_yaxis()
        ax.set(xlabel="KL(labeler || student)")
        for row, shown in zip(right.subplots(*images.shape[:2]), images, strict=True):
            for ax, image in zip(row, shown, strict=True):
                ax.imshow(image, cmap="gray", vmin=0, vmax=1)
                ax.set_xticks([])
                ax.set_yticks([])
        plots.save(figure, path)


def draw_classes(
    tables: Mapping[str, pd.DataFrame], groups: Sequence[Sequence[int]], xlabel: str, path: Path
) -> None:
    """Mean accuracy on groups of classes, a panel a table, a line an arm."""
    columns = min(3, len(tables))
    lines = -(-len(tables) // columns)
    with mpl.rc_context(STYLE):
        size = (max(5.8, 3.2 * columns + 0.4), 2.9 * lines + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(tables) :]:
            ax.set_axis_off()
        for ax, (title, table) in zip(axes.flat, tables.items(), strict=False):
            for number, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
                recalls = [tail(rows, group).mean() for group in groups]
                style = {
                    "color": COLORS[number % len(COLORS)],
                    "marker": MARKERS[number % len(MARKERS)],
                }
                if number >= len(COLORS):
                    style |= {"linestyle": "--", "markerfacecolor": "white"}
                ax.plot(range(1, len(groups) + 1), recalls, markersize=5, label=arm, **style)
            ax.set(xlabel=xlabel, title=title, xticks=range(1, len(groups) + 1))
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy")
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(5, 2 + columns))
        plots.save(figure, path)
