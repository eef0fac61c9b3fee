"""Teacher-guided training on texts (2208.06825, our reading): WordNet's definitions, 45 classes.

Students see a few hundredths of the labels, in their natural long tail; the teacher, a labeler and
a denoising autoencoder, has seen all training definitions. The rest of these, without labels, is
the unlabelled pool of one arm.

    python -m experiments.tgt_text --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tyro

from experiments import tgt_networks
from experiments.tables import markdown
from experiments.tgt_networks import WORDS, disagreements, tail
from ncjax import data, runs, training
from ncjax.data import Corruption, wordnet
from ncjax.training import TrainConfig

ADAM = {"optimizer": "adam", "weight_decay": 0.0, "measure_every": 0, "dataset": "wordnet"}
VALIDATION = 15
GENERATOR = TrainConfig(
    network="text_autoencoder",
    width=64,
    feature_dim=64,
    learning_rate=2e-3,
    epochs=8,
    batch_size=256,
    evaluators=("test",),
    checkpoint_every=1,
    **{**ADAM, "measure_every": 2},
)
"""Of texts."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Students of some labels, and their teacher.

    Attributes:
        share: of the labels that students see.
        steps: updates of each student.
        seeds: of students and labelers.
        student: a bag of words.
        labeler: windows of words.
        generator: of texts.
    """

    share: float
    steps: int
    seeds: int
    student: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(
            network="bag",
            width=32,
            widths=(64,),
            learning_rate=4e-3,
            schedule="constant",
            batch_size=64,
            evaluators=("train", "validation", "test", "classes"),
            checkpoint_every=1000,
            **ADAM,
        )
    )
    labeler: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(
            network="textcnn",
            width=64,
            widths=(128,),
            learning_rate=2e-3,
            epochs=5,
            batch_size=256,
            evaluators=("test", "classes"),
            checkpoint_every=1,
            **ADAM,
        )
    )
    generator: TrainConfig = GENERATOR

    def base(self, seed: int) -> TrainConfig:
        """The students' of a seed."""
        corruption = Corruption(share=self.share, validation=VALIDATION, unlabelled=True, seed=seed)
        size = len(data.load("wordnet").corrupt(corruption).labels)
        epochs = max(1, round(self.steps / (size // self.student.batch_size)))
        return dataclasses.replace(self.student, corruption=corruption, seed=seed, epochs=epochs)


def study(preset: str) -> Study:
    """Of a preset."""
    if preset == "cpu":
        return Study(share=0.03, steps=1000, seeds=5)
    tiny = Study(share=0.1, steps=4, seeds=1)
    few = Corruption(per_class=20)
    changes = {"corruption": few, "epochs": 1, "width": 8}
    return dataclasses.replace(
        tiny,
        student=dataclasses.replace(tiny.student, width=4, widths=(8,)),
        labeler=dataclasses.replace(tiny.labeler, widths=(8,), **changes),
        generator=dataclasses.replace(tiny.generator, **changes),
    )


def main(preset: Literal["smoke", "cpu"] = "cpu", run: Path = Path("runs/tgt_text")) -> None:
    """Trains all, and writes tables and a figure.

    Args:
        preset: smoke takes seconds, cpu hours.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    asked, generator = study(preset), run / "generator"
    training.train(asked.generator, generator)
    bases, teachers = {}, {}
    for seed in range(asked.seeds):
        bases[seed] = asked.base(seed)
        seen = asked.labeler.corruption
        seen = dataclasses.replace(seen, validation=VALIDATION, seed=seed)
        labeler = dataclasses.replace(asked.labeler, corruption=seen, seed=seed)
        folder = run / "teachers" / f"labeler-{seed}"
        teachers[seed] = tgt_networks.labeler(labeler, folder, generator=str(generator))
    columns = ("test_accuracy", "macro", "tail", "validation_accuracy")
    picked = tgt_networks.compared(
        "WordNet", bases, teachers, columns, run, finish=with_means, arms=WORDS
    )
    fifths = np.array_split(by_frequency(), 5)
    label = "fifth of the classes, by falling frequency"
    tgt_networks.draw_classes({"WordNet": picked}, fifths, label, run / "tgt_text.png")
    climbed = picked[(picked["arm"] == "TGT gradient") & (picked["seed"] == 0)]
    found = on_the_way(Path(climbed["run"].iloc[0]))
    runs.write_atomically(run / "on_the_way.md", markdown(found) + "\n")
    print(f"{markdown(found)}\nwritten: {run}")


def by_frequency() -> np.ndarray:
    """Classes, the most frequent first."""
    return np.argsort(-np.bincount(wordnet.glosses().classes), kind="stable")


def with_means(ends: pd.DataFrame) -> pd.DataFrame:
    """With the mean accuracy of classes, and of the rarer half of them."""
    classes = by_frequency()
    return ends.assign(macro=tail(ends, classes), tail=tail(ends, classes[len(classes) // 2 :]))


def on_the_way(run: Path) -> pd.DataFrame:
    """Disagreement of student and labeler along the ascent, and two texts on the way."""
    table, texts = disagreements(run)
    for number in (2, 7):
        words = [wordnet.known().decode(text) for text in texts[:, number]]
        table[f"text {number}"] = words
    return table.set_index("images").rename_axis(None)


if __name__ == "__main__":
    tyro.cli(main)
