"""Teacher-guided training on long tails (2208.06825, our reading): does exploring help the tail?

Students see an exponential long tail; the teacher, a labeler and a generator, has seen all training
images, as in the paper. In the fair variant it has seen the long tail alone. Images that are left
out are the unlabelled pool of one arm. Test sets are balanced.

    python -m experiments.tgt_longtail --preset cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tyro

from experiments import tgt_networks
from experiments.collapse_imbalance import geometry
from experiments.tgt_networks import ARMS, disagreements, tail
from ncjax import checks, data, training
from ncjax.data import Corruption
from ncjax.training import TrainConfig
from ncjax.training.guides import GENERATORS

ADAM = {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "measure_every": 0}
DIGITS = TrainConfig(
    widths=(32,),
    corruption=Corruption(per_class=100, imbalance=50, validation=15, unlabelled=True),
    schedule="constant",
    batch_size=64,
    evaluators=("train", "validation", "test", "classes"),
    checkpoint_every=1000,
    **ADAM,
)
FASHION = dataclasses.replace(
    DIGITS,
    dataset="fashion_mnist",
    widths=(64,),
    corruption=Corruption(per_class=2000, imbalance=100, validation=50, unlabelled=True),
)
LABELER = TrainConfig(widths=(256, 256), epochs=60, batch_size=64, **ADAM)
GENERATOR = TrainConfig(
    dataset="fashion_mnist",
    corruption=Corruption(per_class=3000),
    network="autoencoder",
    width=8,
    feature_dim=32,
    epochs=10,
    batch_size=128,
    **{**ADAM, "learning_rate": 2e-3},
)
"""Of all seeds: no label has a part in it."""
IMAGENET = dataclasses.replace(
    DIGITS,
    dataset="imagenet.npz",
    corruption=Corruption(per_class=1280, imbalance=256, validation=10, unlabelled=True),
    network="resnet18",
    width=64,
    stem="imagenet",
    augment="crop_flip",
    batch_size=256,
)
"""1,280 images of the first class, 5 of the last: the sizes of ImageNet-LT, not its choice."""
BIGBIGAN = "bigbigan"


@dataclasses.dataclass(frozen=True)
class Study:
    """A long tail, and a teacher.

    Attributes:
        base: of the students.
        labeler: of the teacher, on all images but for those set aside; in the fair variant on the
            long tail, with logit adjustment.
        generator: None for principal components, or the name of a registered one.
        fair: whether the teacher sees the long tail alone.
        steps: updates of each student.
    """

    base: TrainConfig
    labeler: TrainConfig
    generator: TrainConfig | str | None = None
    fair: bool = False
    steps: int = 3000

    def of_seed(self, seed: int) -> tuple[TrainConfig, TrainConfig]:
        """Student and labeler."""
        corruption = dataclasses.replace(self.base.corruption, seed=seed)
        size = len(data.load(self.base.dataset).corrupt(corruption).labels)
        epochs = max(1, round(self.steps / (size // self.base.batch_size)))
        base = dataclasses.replace(self.base, corruption=corruption, seed=seed, epochs=epochs)
        if self.fair:
            seen, method = dataclasses.replace(corruption, unlabelled=False), "logit_adjustment"
        else:
            seen, method = Corruption(validation=corruption.validation, seed=seed), "standard"
        changes = {"dataset": base.dataset, "corruption": seen, "method": method, "seed": seed}
        return base, dataclasses.replace(self.labeler, **changes)


def studies(preset: str) -> dict[str, Study]:
    """By name."""
    if preset == "smoke":
        labeler = dataclasses.replace(LABELER, widths=(16,), epochs=1)
        few = {"dataset": "digits", "corruption": Corruption(per_class=20), "batch_size": 50}
        generator = dataclasses.replace(GENERATOR, width=2, epochs=1, **few)
        return {"digits": Study(DIGITS, labeler, generator, steps=4)}
    if preset == "paper":
        labeler = dataclasses.replace(IMAGENET, network="resnet50", epochs=90)
        return {"ImageNet, 256": Study(IMAGENET, labeler, BIGBIGAN, steps=45_000)}
    tails = {f"digits, {ratio:g}": _tail(DIGITS, ratio) for ratio in (50.0, 100.0)}
    found = {name: Study(base, LABELER) for name, base in tails.items()}
    found["digits, 50, fair"] = Study(DIGITS, LABELER, fair=True)
    whole = dataclasses.replace(LABELER, widths=(512, 512), epochs=15, batch_size=250)
    for ratio in (50.0, 100.0):
        found[f"Fashion-MNIST, {ratio:g}"] = Study(
            _tail(FASHION, ratio), whole, GENERATOR, steps=1500
        )
    return found


def _tail(base: TrainConfig, ratio: float) -> TrainConfig:
    corruption = dataclasses.replace(base.corruption, imbalance=ratio)
    return dataclasses.replace(base, corruption=corruption)


SEEDS = {"smoke": 1, "cpu": 5, "paper": 5}


def main(
    preset: Literal["smoke", "cpu", "paper"] = "cpu", run: Path = Path("runs/tgt_longtail")
) -> None:
    """Trains all, and writes tables and figures.

    The paper preset is for ImageNet, with a generator of your own, as the paper's BigBiGAN is of no
    package that this one depends on: its public checkpoint has a latent space of 120 dimensions, an
    encoder from 256 pixels and a decoder to 128. It needs the file `imagenet.npz` here (`images`
    uint8 `[N, H, W, 3]`, `labels`, `test_images`, `test_labels`, of 1,000 classes), memory for all
    of it on the host and on each accelerator (16 GB at 64 pixels), and a generator that a script
    registers before it calls this function:
    `ncjax.training.register_generator("bigbigan", lambda dataset: ...)`. Updates, rates and
    networks are ours; it has not been run.

    Args:
        preset: smoke takes seconds, cpu hours, paper days of accelerators.
        run: folder for everything; the same command goes on where a killed one stopped.

    Raises:
        InputError: what the paper preset needs is missing.
    """
    if preset == "paper":
        _check_paper()
    picked = {}
    for name, study in studies(preset).items():
        folder = run / name.replace(", ", "-").replace(" ", "-").lower()
        picked[name] = studied(name, study, SEEDS[preset], folder)
    classes = np.array_split(np.arange(1000 if preset == "paper" else 10), 10)
    label = f"{'tenth of the classes' if preset == 'paper' else 'class'}, by falling frequency"
    tgt_networks.draw_classes(picked, classes, label, run / "tgt_longtail.png")
    print(f"written: {run}")


def _check_paper() -> None:
    found = {IMAGENET.dataset: Path(IMAGENET.dataset).exists(), BIGBIGAN: BIGBIGAN in GENERATORS}
    missing = [name for name, there in found.items() if not there]
    if missing:
        accepted = f"one with the file '{IMAGENET.dataset}' and a registered generator '{BIGBIGAN}'"
        remedy = "The docstring of experiments.tgt_longtail.main says what both are."
        got = f"'paper' without {' and '.join(missing)}"
        raise checks.reject("preset", got, accepted, remedy)


def studied(name: str, study: Study, seeds: int, run: Path) -> pd.DataFrame:
    """One study; the last measurements of each arm at its chosen setting."""
    bases, teachers = {}, {}
    for seed in range(seeds):
        bases[seed], teacher = study.of_seed(seed)
        fields = {"fit": "train" if study.fair else "all"}
        if isinstance(study.generator, str):
            fields["generator"] = study.generator
        elif study.generator is not None:
            fields["generator"] = str(run.parent / f"generator-{study.generator.dataset}")
            training.train(study.generator, fields["generator"])
        teachers[seed] = tgt_networks.labeler(teacher, run / "teachers" / f"{seed}", **fields)
    columns = ("test_accuracy", "tail", "validation_accuracy", "minority_cosine")
    picked = tgt_networks.compared(name, bases, teachers, columns, run, arms=ARMS, finish=with_tail)
    climbed = picked[(picked["arm"] == "TGT gradient") & (picked["seed"] == 0)]
    found = disagreements(Path(climbed["run"].iloc[0]))
    tgt_networks.draw_path(*found, run / "figures" / "tgt_path.png")
    return picked


def with_tail(ends: pd.DataFrame) -> pd.DataFrame:
    """With accuracy on the rarer half of the classes, and the geometry of their classifiers."""
    count = sum(name.startswith("test_recall_") for name in ends)
    return geometry(ends.assign(tail=tail(ends, range(count // 2, count))))


if __name__ == "__main__":
    tyro.cli(main)
