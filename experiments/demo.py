"""The demonstration: a certified landscape and four trained networks, in under three minutes.

Expected: every point of the sweep is a strict saddle or a minimiser whose objective is that of the
theory to 1e-9; every network reaches full training accuracy and NC1 below 1e-2.

    make demo            # or: python -m experiments.demo --run runs/demo

Killed at any moment, the same command goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import jax
import pandas as pd
import tyro

from experiments.tables import markdown
from ncjax import plots, runs, training, ufm

GRID = ufm.Grid(
    lambda_w=(5e-4, 2e-3, 8e-3),
    lambda_h=(5e-4, 2e-3, 8e-3),
    lambda_b=(1e-3, 1e-1),
    ranks=(0, 1, 2, 3, 4),
    starts=6,
    dense_limit=500,
)
CONFIG = training.TrainConfig()


def main(run: Path = Path("runs/demo")) -> None:
    """Sweep the landscape, train under the four losses, and write a summary with figures.

    Args:
        run: folder for everything.
    """
    started = time.perf_counter()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    table = sweep(run / "landscape")
    swept = time.perf_counter()
    folders = train_networks(run)
    trained = time.perf_counter()
    figures = run / "figures"
    figures.mkdir(exist_ok=True)
    plots.critical_points(table, figures / "critical_points.png")
    plots.training_figures(folders, figures)
    seconds = {"landscape": swept - started, "networks": trained - swept}
    summary = summarize(table, folders, seconds)
    runs.write_atomically(run / "summary.md", summary)
    print(summary)
    print(f"written: {run / 'summary.md'}")


def sweep(run: Path) -> pd.DataFrame:
    """The landscape under the four losses, over decays, ranks and starts."""
    with jax.enable_x64(True):
        return ufm.landscape(GRID, run)


def train_networks(run: Path) -> dict[str, Path]:
    """The digits network to the terminal phase, once a loss; returns the run folders."""
    folders = {}
    for loss in GRID.losses:
        folders[loss] = run / f"train-{loss}"
        training.train(dataclasses.replace(CONFIG, loss=loss), folders[loss])
    return folders


def summarize(table: pd.DataFrame, folders: dict[str, Path], seconds: dict[str, float]) -> str:
    """The report, in Markdown."""
    final = pd.DataFrame(
        {loss: runs.read_metrics(folder).iloc[-1] for loss, folder in folders.items()}
    ).T
    columns = ["epoch", "accuracy", "test_accuracy", "nc1_pinv", "nc2_means", "nc2_classifier"]
    columns += ["nc3_self_duality", "nc3_etf", "nc4_agreement"]
    config = json.loads((next(iter(folders.values())) / "config.json").read_text())
    shown = {k: v for k, v in config["config"].items() if k not in ("loss", "data")}
    setting = ", ".join(f"{name} {value}" for name, value in shown.items())
    return f"""# Demonstration

On {config["environment"]["device"]}, jax {config["environment"]["versions"]["jax"]}:
landscape {seconds["landscape"]:.0f} s, networks {seconds["networks"]:.0f} s (compilation
included; less if a part was there from a run before).

## The landscape: every critical point found, certified

{markdown(ufm.summarize(table).set_index("loss"))}

Gaps are rigorous and exist for the convex losses. The escape law gives the smallest Hessian
eigenvalue of a saddle from one small singular value decomposition; its error is relative to the
dense Hessian's.

![critical points](figures/critical_points.png)

## Digits, trained to the terminal phase

{markdown(final[columns].astype({"epoch": int}))}

All but the two accuracies and `nc4_agreement` are 0 at exact collapse. Setting: {setting}.

![collapse](figures/collapse_curves.png)
![class means](figures/class_means.png)
"""


if __name__ == "__main__":
    tyro.cli(main)
