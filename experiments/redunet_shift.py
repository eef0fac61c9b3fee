"""Shift-invariant ReduNet: accuracy on shifted and rotated samples, equivariance (2105.10446).

Signals, translated digits and Fashion-MNIST, and Fashion-MNIST rotated (in polar coordinates, where
a rotation is nearly a shift; test images are turned before they are sampled). Against ReduNet on
vectors and nearest subspaces on raw samples; on raw samples and random shifts of them; and on the
moduli of the Fourier transform, which are invariant too. Precisions, the layer whose assignment
counts, and the settings of all others are chosen on validation samples, for samples as they are and
moved ones apart; step, depth and lifting are fixed.

    python -m experiments.redunet_shift --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pandas as pd
import scipy.ndimage
import tyro
from sklearn.base import clone

from experiments.drawing import redunet as drawing
from experiments.networks import spread
from experiments.splits import Split, candidates, on_all, shifted, split, unit
from experiments.tables import markdown
from ncjax import runs
from ncjax.redunet import ReduNet, ShiftInvariantReduNet, polar

ANGLES, RADII = 120, 15
"""Of the polar coordinates."""
HEADS = ("subspace", "kNN")
MEASURES = ["plain", "shifted", "equivariance", "equivariance, float64"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set and the network for it.

    Attributes:
        per_class: training samples of each class.
        tested: test samples, at most.
        positions: 1 for signals, 2 for images.
        channels: of the lifting.
        filter_size: of the lifting.
        num_layers: L.
    """

    per_class: int
    tested: int
    positions: int
    channels: int
    filter_size: int
    num_layers: int


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        cases: by data set.
        eps: precisions to choose from.
        seeds: splits and filters.
        copies: random shifts of each sample that the augmented classifiers see.
    """

    cases: dict[str, Case]
    eps: tuple[float, ...] = (0.1, 0.1**0.5, 1.0)
    seeds: int = 3
    copies: int = 20


PRESETS = {
    "smoke": Config({"digits": Case(5, 50, 2, 4, 3, 2)}, (0.1**0.5,), 2, 2),
    "cpu": Config(
        {
            "signals": Case(40, 400, 1, 7, 3, 20),
            "digits": Case(80, 400, 2, 16, 3, 10),
            "fashion_mnist": Case(20, 300, 2, 16, 5, 5),
            "rotated": Case(40, 300, 1, 20, 5, 10),
        }
    ),
    "accelerator": Config(
        {
            "fashion_mnist": Case(100, 2000, 2, 75, 9, 25),
            "rotated": Case(100, 2000, 1, 20, 5, 40),
        }
    ),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/redunet_shift")
) -> None:
    """Builds all, and writes the table and the figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    table = on_all(run, config.cases, config.seeds, lambda name, seed: compared(name, seed, config))
    summary = markdown(spread(table, ["data", "method"], MEASURES))
    runs.write_atomically(run / "redunet_shift.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    drawing.plain_and_shifted(table, run / "figures" / "redunet_shift.png")
    print(summary)
    print(f"written: {run}")


def compared(name: str, seed: int, config: Config) -> pd.DataFrame:
    """Accuracy of every method on a split, and errors of equivariance."""
    case = config.cases[name]
    parts, moved = _parts(name, seed, case)
    more = _augmented(parts.train, config.copies, seed, _along(name))
    raw = {
        "raw": (parts, moved, parts.train, unit),
        "raw and shifts": (parts, moved, more, unit),
        "Fourier moduli": (parts, moved, parts.train, lambda x: unit(_moduli(x, name))),
    }
    rows = {f"{key}, {head}": _classical(head, *raw[key]) for key in raw for head in HEADS}
    flat = parts.map(unit), moved.map(unit)
    rows["ReduNet on vectors"], _ = _chosen([ReduNet(20, eps) for eps in config.eps], *flat)
    rows["shift-invariant ReduNet"] = _invariant(parts, moved, case, seed, config.eps)
    return pd.DataFrame([{"data": name, "seed": seed, "method": key} | rows[key] for key in rows])


def _parts(name: str, seed: int, case: Case) -> tuple[Split, Split]:
    """The split, and it with validation and test samples shifted or rotated."""
    source = "fashion_mnist" if name == "rotated" else name
    parts = split(source, seed, case.per_class, case.tested)
    move = _turned if name == "rotated" else shifted
    moved = [(move(x, 2 * seed + i), y) for i, (x, y) in enumerate((parts.validation, parts.test))]
    both = parts, Split(parts.train, *moved)
    return tuple(one.map(_rays) for one in both) if name == "rotated" else both


def _turned(images: np.ndarray, seed: int) -> np.ndarray:
    """Every image rotated by a random angle."""
    turns = np.random.default_rng(seed).uniform(0, 360, len(images))
    rotate = functools.partial(scipy.ndimage.rotate, reshape=False, order=1)
    return np.stack([rotate(image, turn) for image, turn in zip(images, turns, strict=True)])


def _rays(images: np.ndarray) -> np.ndarray:
    return np.asarray(polar(images.astype(np.float32), ANGLES, RADII))


def _along(name: str) -> tuple[int, ...] | None:
    """The axes of positions: all but the samples, and but the radii of rays."""
    return (1,) if name == "rotated" else None


def _moduli(x: np.ndarray, name: str) -> np.ndarray:
    """Of the Fourier transform over the positions."""
    return np.abs(np.fft.rfftn(x, axes=_along(name) or tuple(range(1, x.ndim))))


def _augmented(
    train: tuple[np.ndarray, np.ndarray], copies: int, seed: int, axes: tuple[int, ...] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Training samples and random shifts of them."""
    x, y = train
    more = [shifted(x, 1000 * seed + i, axes) for i in range(copies)]
    return np.concatenate([x, *more]), np.tile(y, copies + 1)


def _classical(
    head: str, parts: Split, moved: Split, train: tuple, features: Callable
) -> dict[str, float]:
    """A classifier of functions of samples."""
    fitted = [one.fit(features(train[0]), train[1]) for one in candidates(head)]
    found = {}
    for name, kind in (("plain", parts), ("shifted", moved)):
        seen = kind.map(features)
        one = max(fitted, key=lambda one, seen=seen: one.score(*seen.validation))
        found[name] = one.score(*seen.test)
    return found


def _invariant(
    parts: Split, moved: Split, case: Case, seed: int, eps: tuple[float, ...]
) -> dict[str, float]:
    """Shift-invariant ReduNet, and its errors of equivariance."""
    names = ("channels", "filter_size", "positions", "num_layers")
    settings = {name: getattr(case, name) for name in names}
    nets = [ShiftInvariantReduNet(eps=one, seed=seed, **settings) for one in eps]
    found, net = _chosen(nets, parts, moved)
    x = parts.test[0][:20]
    found["equivariance"] = _equivariance(net, x)
    with jax.enable_x64(True):
        found["equivariance, float64"] = _equivariance(clone(net).fit(*parts.train), x)
    return found


def _equivariance(net: ShiftInvariantReduNet, x: np.ndarray) -> float:
    """How far features of shifts are from shifts of features, over the largest feature."""
    axes, move = tuple(range(1, 1 + net.positions)), (3,) * net.positions
    features = net.transform(x)
    error = np.abs(net.transform(np.roll(x, move, axes)) - np.roll(features, move, axes))
    return float(error.max() / np.abs(features).max())


def _chosen(nets: list[ReduNet], parts: Split, moved: Split) -> tuple[dict[str, float], ReduNet]:
    """Accuracy of the network and layer that are best on validation; that of moved samples."""
    for net in nets:
        net.fit(*parts.train)
    found = {}
    for name, kind in (("plain", parts), ("shifted", moved)):
        x, y = kind.validation
        scores = [(net.staged_predict(x) == y).mean(1) for net in nets]
        number = max(range(len(nets)), key=lambda i, scores=scores: scores[i].max())
        net, layer = nets[number], int(scores[number].argmax())
        x, y = kind.test
        found[name] = float((net.staged_predict(x)[layer] == y).mean())
    return found | {"eps": net.eps, "layer": layer + 1}, net


if __name__ == "__main__":
    tyro.cli(main)
