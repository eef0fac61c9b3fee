"""Teacher-guided training from few labels (2208.06825, our reading): Fashion-MNIST.

Students see 10 to 1,000 labels a class; all other training images are unlabelled. The teacher, a
labeler and principal components, has seen all of them, labels included.

    python -m experiments.tgt_lowdata --preset cpu
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments import tgt_networks
from experiments.tgt_longtail import DIGITS, LABELER
from experiments.tgt_networks import ARMS, WORDS, tail
from ncjax import plots
from ncjax.data import Corruption
from ncjax.plots import COLORS, MARKERS, STYLE
from ncjax.training import TrainConfig

VALIDATION = 20
EVEN = {arm: WORDS.get(arm, grid) for arm, grid in ARMS.items() if arm != "logit adjustment"}
"""At two radii; classes are even, there is nothing to adjust."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Students of several numbers of labels, and their teacher.

    Attributes:
        labels: of each class.
        base: of the students, in all else.
        labeler: of the teacher.
        steps: updates of each student.
        seeds: of students and labelers.
        dim: principal components.
    """

    labels: tuple[int, ...]
    base: TrainConfig
    labeler: TrainConfig
    steps: int
    seeds: int
    dim: int

    def bases(self, count: int) -> dict[int, TrainConfig]:
        """The students' of each seed."""
        corruption = Corruption(per_class=count, validation=VALIDATION, unlabelled=True)
        epochs = max(1, round(self.steps / (10 * count // self.base.batch_size)))
        base = dataclasses.replace(self.base, epochs=epochs)
        return {
            seed: dataclasses.replace(
                base, corruption=dataclasses.replace(corruption, seed=seed), seed=seed
            )
            for seed in range(self.seeds)
        }

    def of_labeler(self, seed: int) -> TrainConfig:
        """Sees all training images but those that are set aside."""
        seen = Corruption(validation=VALIDATION, seed=seed)
        return dataclasses.replace(
            self.labeler, dataset=self.base.dataset, corruption=seen, seed=seed
        )


def study(preset: str) -> Study:
    """Of a preset."""
    if preset == "smoke":
        labeler = dataclasses.replace(LABELER, widths=(16,), epochs=1)
        return Study((10,), DIGITS, labeler, steps=4, seeds=1, dim=8)
    fashion = dataclasses.replace(DIGITS, dataset="fashion_mnist", widths=(64,))
    labeler = dataclasses.replace(LABELER, widths=(512, 512), epochs=15, batch_size=250)
    return Study((10, 100, 1000), fashion, labeler, steps=1500, seeds=5, dim=32)


def main(preset: Literal["smoke", "cpu"] = "cpu", run: Path = Path("runs/tgt_lowdata")) -> None:
    """Trains all, and writes tables and a figure.

    Args:
        preset: smoke takes seconds, cpu hours.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    asked, picked = study(preset), {}
    teachers = {
        seed: tgt_networks.labeler(
            asked.of_labeler(seed), run / "teachers" / f"labeler-{seed}", dim=asked.dim
        )
        for seed in range(asked.seeds)
    }
    for count in asked.labels:
        picked[count] = tgt_networks.compared(
            f"{count} labels a class",
            asked.bases(count),
            teachers,
            ("test_accuracy", "tail", "validation_accuracy"),
            run / str(count),
            finish=with_hardest,
            arms=EVEN,
        )
    draw(picked, run / "tgt_lowdata.png")
    print(f"written: {run}")


def with_hardest(ends: pd.DataFrame) -> pd.DataFrame:
    """With `tail`, here the accuracy on the five classes that are hardest for the one-hot arm."""
    plain = ends[ends["arm"] == "one-hot"]
    means = {k: tail(plain, [k]).mean() for k in range(10)}
    return ends.assign(tail=tail(ends, sorted(means, key=means.get)[:5]))


def draw(tables: Mapping[int, pd.DataFrame], path: Path) -> None:
    """Test accuracy by the number of labels, a line an arm, with standard errors."""
    table = pd.concat({count: rows.assign(labels=count) for count, rows in tables.items()})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        ax = figure.subplots()
        for number, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
            groups = rows.groupby("labels")["test_accuracy"]
            mean, error = groups.mean(), groups.std() / groups.count() ** 0.5
            style = {
                "color": COLORS[number % len(COLORS)],
                "marker": MARKERS[number % len(MARKERS)],
            }
            dashes = "-" if number < len(COLORS) else "--"
            ax.errorbar(mean.index, mean, error, linestyle=dashes, capsize=2, label=arm, **style)
        ax.set(xscale="log", xlabel="labels a class", ylabel="test accuracy")
        figure.legend(loc="outside lower center", ncols=3)
        plots.save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
