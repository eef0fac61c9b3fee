"""Teacher-guided training for retrieval (2208.06825, our reading), on WordNet.

A query is an example of a word's use, its passage the definition that it goes with, to be found
among all definitions. Students are dual encoders that see a few pairs; the teacher, a cross-encoder
and a denoising autoencoder of queries, has seen all training pairs. Each query is scored against
the passages of its batch.

    python -m experiments.tgt_retrieval --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments import retrieval
from experiments.retrieval import Training, first_by_words, first_of_batch, pairs, ranked, scorer
from experiments.tables import kept
from experiments.tgt_networks import KD, WORDS, Grids, reported
from experiments.tgt_text import GENERATOR
from ncjax import models, plots, progress, runs, tgt, training
from ncjax.data import wordnet
from ncjax.plots import COLORS, STYLE
from ncjax.training import TrainConfig
from ncjax.training.guided import TGTConfig

WRITER = dataclasses.replace(GENERATOR, epochs=16, evaluators=("train",), measure_every=0)
"""Of queries."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        labelled: pairs that students see.
        seeds: of students and their pairs, and of labelers.
        student: a dual encoder's.
        labeler: a cross-encoder's.
        generator: of queries; its data are written beside it.
    """

    labelled: int
    seeds: int
    student: Training
    labeler: Training
    generator: TrainConfig = WRITER


PRESETS = {
    "smoke": Config(
        16, 1, Training(4, 2, 8), Training(4, 2, 8), dataclasses.replace(WRITER, epochs=1)
    ),
    "cpu": Config(3000, 5, Training(64, 800), Training(64, 2000)),
    "longer": Config(3000, 5, Training(64, 2000, rate=3e-3), Training(64, 2000)),
}
COLUMNS = ("of_64", "mrr", "recall_100", "validation_of_64")
PAIRS = {arm: grid for arm, grid in WORDS.items() if arm != "logit adjustment"}
"""Of pairs no class is rare."""


def main(
    preset: Literal["smoke", "cpu", "longer"] = "cpu", run: Path = Path("runs/tgt_retrieval")
) -> None:
    """Trains all, and writes tables and a figure.

    Args:
        preset: smoke takes seconds, cpu an hour or two; longer as well, with the settings of each
            arm that come first, as cpu chose them, and all temperatures.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    generator = generator_of(config, run)
    guides = {seed: guide_of(config, generator, run, seed) for seed in range(config.seeds)}

    def measured(grids: Grids, stage: str) -> pd.DataFrame:
        cases = [
            (arm, number, settings, seed)
            for arm, grid in grids.items()
            for number, settings in enumerate(grid)
            for seed in guides
        ]
        rows = []
        for arm, number, settings, seed in progress.bar(cases, desc=stage, unit=" runs"):
            path = run / stage / f"{arm.replace(' ', '-').lower()}-{number}-{seed}.csv"
            work = functools.partial(row_of, config, settings, guides[seed], path, seed)
            rows.append(kept(path, work).assign(arm=arm, setting=number, seed=seed))
        return pd.concat(rows, ignore_index=True)

    first = {arm: grid if arm == KD else grid[:1] for arm, grid in PAIRS.items()}
    grids = first if preset == "longer" else PAIRS
    picked = reported("WordNet, pairs", measured, COLUMNS, run, grids, "validation_of_64")
    said = {seed: first_of_batch(guide.labeler, "test") for seed, guide in guides.items()}
    print(f"of_64 of the labelers: {np.mean(list(said.values())):.3g}")
    print(f"of_64 of TF-IDF: {first_by_words('test'):.3g}")
    draw(picked, run / "tgt_retrieval.png")
    print(f"written: {run}")


def generator_of(config: Config, run: Path) -> tgt.Generator:
    """Trained on the training queries, unless it is."""
    known = pairs()
    rows = known.parts["train"]
    classes = wordnet.glosses().classes[known.right[rows]]
    arrays = {"texts": known.queries[rows], "labels": np.unique(classes, return_inverse=True)[1]}
    path = run / "queries.npz"
    runs.write_atomically(path, lambda draft: np.savez(draft, **arrays))
    own = dataclasses.replace(config.generator, dataset=str(path))
    print(training.train(own, run / "generator").tail(1).to_string(index=False))
    return training.generator_of(run / "generator")


def guide_of(config: Config, generator: tgt.Generator, run: Path, seed: int) -> tgt.Guide:
    """With a cross-encoder, trained on all training pairs unless it is."""
    model = models.CrossEncoder(wordnet.VOCABULARY, config.labeler.dim)
    path = run / "labelers" / f"{seed}.msgpack"
    rows = pairs().parts["train"]
    params = retrieval.trained(model, config.labeler, rows, seed, path)
    return tgt.Guide(generator, scorer(model, params))


def row_of(
    config: Config, settings: Mapping[str, Any], guide: tgt.Guide, path: Path, seed: int
) -> pd.DataFrame:
    """A student's measurements."""
    model = models.DualEncoder(wordnet.VOCABULARY, config.student.dim)
    rows = np.random.default_rng([seed, 1]).permutation(pairs().parts["train"])
    labelled, others = rows[: config.labelled], rows[config.labelled :]
    guided: dict[str, Any] = {}
    if "method" not in settings:
        exploring = TGTConfig("cross-encoder", **settings)
        guided = {"settings": exploring, "guide": guide, "others": others}
    path = path.with_suffix(".msgpack")
    params = retrieval.trained(model, config.student, labelled, seed, path, **guided)
    score = scorer(model, params)
    parts = {"of_64": "test", "validation_of_64": "validation"}
    found = {name: first_of_batch(score, part) for name, part in parts.items()}
    return pd.DataFrame([{**ranked(model, params, "test"), **found}])


def draw(picked: pd.DataFrame, path: Path) -> None:
    """How often each arm finds the passage among 64, a point a seed."""
    arms = list(dict.fromkeys(picked["arm"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        ax = figure.subplots()
        for place, arm in enumerate(arms):
            values = picked.loc[picked["arm"] == arm, "of_64"]
            ax.plot(values, np.full(len(values), place), "o", color=COLORS[0], alpha=0.5)
            ax.plot(values.mean(), place, "|", color=COLORS[1], markersize=18, markeredgewidth=2)
        ax.set_yticks(range(len(arms)), arms)
        ax.invert_yaxis()
        ax.set(xlabel="right passage first among 64, share of queries (bar: mean)")
        plots.save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
