"""Convolutional normalisation: what is exact about it, and layers' norms in training (2103.00673).

1. Random kernels, as they are and normalised: singular values over the circular grid, beside the
   bounds max(1, sqrt(C_out / C_in)) and sqrt(C_out) of the normalised layer's norm.
2. A CNN trained with each norm: the largest singular value of its convolutions, batch normalisation
   and filters apart, over the epochs.

    python -m experiments.convnorm_isometry --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.convnorm_networks import CNN, DIGITS
from experiments.convnorm_networks import NORMS as TITLES
from experiments.drawing.networks import over_seeds
from experiments.networks import Configs, experiment
from experiments.tables import kept, markdown
from ncjax import curvature, models, plots, runs, training
from ncjax.data import Corruption
from ncjax.models import preconditioned
from ncjax.plots import STYLE
from ncjax.training import Engine, State

KEYS = ("norm", "seed")
SHAPES = (
    (16, 3, 34),
    (16, 16, 34),
    (64, 64, 34),
    (64, 3, 34),
    (16, 64, 34),
    (8, 1, 10),
    (1, 8, 10),
)
"""Output channels, input channels, and the side of the grid."""
MEASURED = {"evaluators": ("train", "test", "layer_norms"), "measure_every": 5}
BASES = {
    "smoke": dataclasses.replace(DIGITS, **MEASURED),
    "cpu": dataclasses.replace(CNN, epochs=20, **MEASURED),
    "accelerator": dataclasses.replace(
        CNN, corruption=Corruption(), width=64, epochs=60, batch_size=128, **MEASURED
    ),
}
SEEDS = {"smoke": 1, "cpu": 3, "accelerator": 5}
NORMS = {"smoke": ("conv",)}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/convnorm_isometry"),
) -> None:
    """Measures kernels, trains networks, and writes tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    training.register_evaluator("layer_norms", layer_norms)
    columns = ("accuracy", "test_accuracy", "largest", "smallest", "product")
    experiment("convnorm_isometry", configs(preset), KEYS, columns, run, draw)
    table = kept(run / "kernels.csv", random_kernels)
    summary = markdown(table.set_index("C_out, C_in, grid"))
    runs.write_atomically(run / "kernels.md", summary + "\n")
    print(summary)


def configs(preset: str) -> Configs:
    """All norms and seeds."""
    base = BASES[preset]
    pairs = itertools.product(NORMS.get(preset, models.NORMS), range(SEEDS[preset]))
    return {(norm, seed): dataclasses.replace(base, norm=norm, seed=seed) for norm, seed in pairs}


def layer_norms(engine: Engine, state: State) -> Mapping[str, Any]:
    """Of the convolutions, the largest and the smallest norm, and the product of all."""
    config = engine.configs[0]
    model = config.model(engine.dataset.num_classes)
    variables = jax.tree.map(np.asarray, dict(state.variables))
    x = np.asarray(engine.dataset.inputs(engine.dataset.images[:1]))
    table = models.layer_norms(model, variables, x if x.ndim == 4 else x[..., None])
    found = table.loc[table["kind"].isin(["Conv", "ConvNorm"]), "bare"]
    return {"largest": found.max(), "smallest": found.min(), "product": found.prod()}


def random_kernels() -> pd.DataFrame:
    """Singular values of Gaussian 3 x 3 kernels of He's scale, and of normalised ones."""
    with jax.enable_x64(True):
        return pd.DataFrame([_of_kernel(*shape) for shape in SHAPES])


def _of_kernel(outputs: int, inputs: int, grid: int) -> dict[str, Any]:
    scale = np.sqrt(2 / (9 * inputs))
    kernel = scale * np.random.default_rng(0).normal(size=(3, 3, inputs, outputs))
    raw = curvature.conv_singular_values(kernel, (grid, grid))
    axes = preconditioned.geometry((grid - 2,) * 2, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    factor = preconditioned.preconditioner(kernel, axes)
    half = jnp.fft.rfft2(kernel, (grid, grid), axes=(0, 1))
    half = half * factor[:, :, None].astype(half.dtype)
    values = jnp.linalg.svd(half, compute_uv=False)
    rows = jnp.square(jnp.abs(half)).sum(2)
    return {
        "C_out, C_in, grid": f"{outputs}, {inputs}, {grid}",
        "largest, as it is": float(raw.max()),
        "at least": max(1.0, float(np.sqrt(outputs / inputs))),
        "largest, normalised": float(values.max()),
        "at most": float(np.sqrt(outputs)),
        "smallest, normalised": float(values.min()),
        "error of unit rows": float(jnp.abs(rows - 1).max()),
    }


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Norms of layers over the epochs, and what the networks learn."""
    panels = {
        "largest": "largest norm",
        "product": "product of the norms",
        "test_accuracy": "test accuracy",
    }
    titles = {one["norm"]: title for title, one in TITLES.items() if "orthogonality" not in one}
    groups = table.groupby("norm", sort=False)
    curves = {titles.get(norm, "spectral norm"): rows for norm, rows in groups}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.0), layout="constrained")
        for ax, (column, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            over_seeds(ax, curves, "epoch", column, title, scale="linear")
            ax.set_xlabel("epoch")
            if column == "product":
                ax.set_yscale("log")
        handles, names = ax.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        plots.save(figure, folder / "convnorm_isometry.png")


if __name__ == "__main__":
    tyro.cli(main)
