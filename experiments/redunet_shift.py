"""Shift-invariant ReduNet: accuracy on shifted and rotated samples, equivariance (2105.10446).

Signals, translated digits and Fashion-MNIST, and Fashion-MNIST rotated (in polar coordinates, where
a rotation is nearly a shift; test images are turned before they are sampled). Against ReduNet on
vectors and nearest subspaces on raw samples; on raw samples and random shifts of them; and on the
moduli of the Fourier transform, which are invariant too. All settings, and the layer whose
assignment counts, are chosen on validation samples as they are.

    python -m experiments.redunet_shift --preset cpu
"""

from __future__ import annotations

import dataclasses
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
from experiments.splits import Split, classical, on_all, shifted, split, unit
from experiments.tables import markdown
from ncjax import runs
from ncjax.redunet import ReduNet, ShiftInvariantReduNet, polar

ANGLES, RADII = 120, 15
"""Of the polar coordinates."""
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
        copies: random shifts of each sample that the augmented subspaces see.
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
    rows = {
        "raw, subspace": _subspaces(parts, moved, unit),
        "raw, subspace of shifts": _augmented(parts, moved, config.copies, seed),
        "Fourier moduli, subspace": _subspaces(parts, moved, lambda x: unit(_moduli(x))),
        "ReduNet on vectors": _vectors(parts, moved, config.eps),
        "shift-invariant ReduNet": _invariant(parts, moved, case, seed, config.eps),
    }
    return pd.DataFrame([{"data": name, "seed": seed, "method": key} | rows[key] for key in rows])


def _parts(name: str, seed: int, case: Case) -> tuple[Split, np.ndarray]:
    """The split, and its test samples shifted or rotated."""
    if name != "rotated":
        parts = split(name, seed, case.per_class, case.tested)
        return parts, shifted(parts.test[0], seed)
    parts = split("fashion_mnist", seed, case.per_class, case.tested)
    turns = np.random.default_rng(seed).uniform(0, 360, len(parts.test[0]))
    turned = np.stack(
        [
            scipy.ndimage.rotate(image, turn, reshape=False, order=1)
            for image, turn in zip(parts.test[0], turns, strict=True)
        ]
    )
    return parts.map(_rays), _rays(turned)


def _rays(images: np.ndarray) -> np.ndarray:
    return np.asarray(polar(images.astype(np.float32), ANGLES, RADII))


def _moduli(x: np.ndarray) -> np.ndarray:
    """Of the Fourier transform over the positions (all axes but the samples, and rays' radii)."""
    axes = (1,) if x.shape[1:] == (ANGLES, RADII) else tuple(range(1, x.ndim))
    return np.abs(np.fft.rfftn(x, axes=axes))


def _subspaces(parts: Split, moved: np.ndarray, features: object) -> dict[str, float]:
    """Nearest subspaces of functions of samples."""
    _, plain = classical(parts.map(features), ["subspace"])["subspace"]
    others = dataclasses.replace(parts, test=(moved, parts.test[1])).map(features)
    return {"plain": plain, "shifted": classical(others, ["subspace"])["subspace"][1]}


def _augmented(parts: Split, moved: np.ndarray, copies: int, seed: int) -> dict[str, float]:
    """Nearest subspaces of training samples and random shifts of them."""
    x, y = parts.train
    along = _shifted_along(x)
    more = np.concatenate([x, *(along(x, 1000 * seed + i) for i in range(copies))])
    larger = dataclasses.replace(parts, train=(more, np.tile(y, copies + 1)))
    return _subspaces(larger, moved, unit)


def _shifted_along(x: np.ndarray) -> object:
    """Random shifts of positions; not of rays' radii."""
    if x.shape[1:] != (ANGLES, RADII):
        return shifted

    def turned(x: np.ndarray, seed: int) -> np.ndarray:
        moves = np.random.default_rng(seed).integers(0, ANGLES, len(x))
        return np.stack([np.roll(one, move, 0) for one, move in zip(x, moves, strict=True)])

    return turned


def _vectors(parts: Split, moved: np.ndarray, eps: tuple[float, ...]) -> dict[str, float]:
    """ReduNet that knows nothing of shifts."""
    flat = parts.map(unit)
    net, layer = _chosen([ReduNet(20, one) for one in eps], flat)
    return _measured(net, layer, flat.test, unit(moved))


def _invariant(
    parts: Split, moved: np.ndarray, case: Case, seed: int, eps: tuple[float, ...]
) -> dict[str, float]:
    """Shift-invariant ReduNet, and its errors of equivariance."""
    names = ("channels", "filter_size", "positions", "num_layers")
    settings = {name: getattr(case, name) for name in names}
    nets = [ShiftInvariantReduNet(eps=one, seed=seed, **settings) for one in eps]
    net, layer = _chosen(nets, parts)
    found = _measured(net, layer, parts.test, moved)
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


def _chosen(nets: list[ReduNet], parts: Split) -> tuple[ReduNet, int]:
    """The network and the layer whose assignment is best on validation samples."""
    x, y = parts.validation
    scores = [(net.fit(*parts.train).staged_predict(x) == y).mean(1) for net in nets]
    best = max(range(len(nets)), key=lambda i: scores[i].max())
    return nets[best], int(scores[best].argmax())


def _measured(
    net: ReduNet, layer: int, test: tuple[np.ndarray, np.ndarray], moved: np.ndarray
) -> dict[str, float]:
    plain, others = ((net.staged_predict(x)[layer] == test[1]).mean() for x in (test[0], moved))
    chosen = {"eps": net.eps, "layer": layer + 1}
    return {"plain": float(plain), "shifted": float(others)} | chosen


if __name__ == "__main__":
    tyro.cli(main)
