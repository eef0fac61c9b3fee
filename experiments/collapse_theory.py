"""Whether a trained network ends where the unconstrained feature model says.

Networks are trained with decay on features, W and b, whose strengths are the model's lambda_H,
lambda_W and lambda_b. At the end W, b and the features of all training images are held against the
closed form at those lambdas (`ufm.minimizer`): norms, the logit gap, the objective. Then they are
taken as a point of the model itself: how critical it is, what `ufm.certify` says, and where
structured Newton goes from there.

Features after a ReLU are not unconstrained: they can't be negative. Columns named `relu` are of the
best point whose features lie along orthogonal axes (`nonnegative`).

    python -m experiments.collapse_theory --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.drawing.networks import by_loss, over_seeds
from experiments.networks import DIGITS, RESNET18, SUBSET, Configs, experiment
from ncjax import models, plots, training, ufm
from ncjax.data import Corruption
from ncjax.plots import COLORS, LOSS_NAMES, STYLE

KEYS = ("loss", "decay", "seed")
BASES = {
    "smoke": dataclasses.replace(DIGITS, corruption=Corruption(per_class=100), epochs=100),
    "cpu": dataclasses.replace(
        SUBSET,
        corruption=Corruption(per_class=200),
        epochs=500,
        learning_rate=0.05,
        measure_every=100,
    ),
    "accelerator": RESNET18,
}
DECAYS = {"smoke": (5e-3,), "cpu": (5e-4, 2e-3, 8e-3), "accelerator": (5e-4, 2e-3)}
LOSSES = {"smoke": ("mse",), "cpu": tuple(LOSS_NAMES), "accelerator": tuple(LOSS_NAMES)}
SEEDS = {"smoke": 1, "cpu": 2, "accelerator": 3}


def configs(preset: str) -> Configs:
    """Four losses, several decays; lambda_H is lambda_W over the number of samples of a class."""
    found = {}
    base = BASES[preset]
    n = base.corruption.per_class or 6000
    for loss, decay, seed in itertools.product(
        LOSSES[preset], DECAYS[preset], range(SEEDS[preset])
    ):
        found[loss, decay, seed] = dataclasses.replace(
            base,
            loss=loss,
            decay="features",
            weight_decay=decay,
            feature_decay=decay / n,
            seed=seed,
        )
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/collapse_theory"),
) -> None:
    """Train all, hold them against theory, and write a table and a figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    columns = (
        *("accuracy", "nc1_pinv", "w", "w_theory", "w_relu"),
        *("h", "h_theory", "h_relu", "gap", "gap_theory", "gap_relu"),
        *("excess", "excess_relu", "gradient", "moved"),
    )
    ends = experiment(
        "collapse_theory", configs(preset), KEYS, columns, run, lambda *_: None, against_theory
    )
    ends.to_csv(run / "theory.csv", index=False)
    draw(ends, run / "figures")
    print(ends.groupby(["loss", "decay"], sort=False)[["verdict", "newton_verdict"]].first())


def against_theory(ends: pd.DataFrame) -> pd.DataFrame:
    """Adds the comparison of each run."""
    with jax.enable_x64(True):
        rows = [compared(Path(row.run), row.member) for row in ends.itertuples()]
    return ends.join(pd.DataFrame(rows, index=ends.index))


def compared(run: Path, member: int) -> dict[str, Any]:
    """One network against the closed form, and as a point of the model."""
    found = training.load_run(run, member=member)
    config, dataset = found.config, found.dataset
    W, b = (np.asarray(x, float) for x in models.classifier(found.variables))
    order = np.argsort(dataset.labels, kind="stable")
    H = features(found, dataset.images[order])
    K, (N, d) = dataset.num_classes, H.shape
    lambdas = (config.weight_decay, config.feature_decay, config.weight_decay)
    problem = ufm.Problem(K, d, N // K, config.loss, *lambdas, dict(config.hyperparameters))
    best = ufm.minimizer(problem, compact=True)
    w_relu, relu = nonnegative(problem)
    point = ufm.Params(W, H, b)
    certificate = ufm.certify(point, problem)
    means = H.reshape(K, -1, d).mean(1)
    logits = means @ W.T
    gap = np.trace(logits) / K - (logits.sum() - np.trace(logits)) / (K * (K - 1))
    newton = ufm.solve(ufm.Params(W, means, b), problem, max_steps=200)
    solved = ufm.certify(newton.params, problem)
    return {
        "w": np.linalg.norm(W, axis=1).mean(),
        "w_theory": np.linalg.norm(best.params.W, axis=1).mean(),
        "w_relu": w_relu,
        "h": np.linalg.norm(H, axis=1).mean(),
        "h_theory": np.linalg.norm(best.params.H, axis=1).mean(),
        "h_relu": np.linalg.norm(relu.params.H, axis=1).mean(),
        "gap": gap,
        "gap_theory": float(best.logit_gap),
        "gap_relu": float(relu.logit_gap),
        "excess": float(certificate.objective / best.value - 1),
        "excess_relu": float(relu.value / best.value - 1),
        "gradient": float(certificate.gradient_norm / problem.force),
        "verdict": certificate.label,
        "moved": float(np.linalg.norm(newton.params.W - W) / np.linalg.norm(W)),
        "newton_verdict": solved.label,
    }


def nonnegative(problem: ufm.Problem) -> tuple[float, ufm.Minimizer]:
    """The best point with `h_k = a e_k` and the rows of W centred.

    For logits s (I - 11'/K) its `||W||^2 ||H||^2` exceeds that of the free factors by K/(K - 1). So
    it costs what the free minimiser costs at lambda_W K/(K - 1), at the same gap and norms of the
    features, and with rows of W longer by sqrt(K/(K - 1)).

    Returns:
        Its norm of a row of W, and that free minimiser.
    """
    stretch = problem.num_classes / (problem.num_classes - 1)
    stricter = dataclasses.replace(problem, lambda_w=stretch * problem.lambda_w)
    best = ufm.minimizer(stricter, compact=True)
    return np.sqrt(stretch) * np.linalg.norm(best.params.W, axis=1).mean(), best


def features(found: training.Trained, images: np.ndarray) -> np.ndarray:
    """Of all images, in batches."""
    apply = jax.jit(
        lambda x: found.model.apply(found.variables, found.dataset.inputs(x), train=False)[1]
    )
    parts = [np.asarray(apply(jnp.asarray(x))) for x in np.array_split(images, 20)]
    return np.concatenate(parts).astype(float)


def draw(ends: pd.DataFrame, folder: Path) -> None:
    """Norms, gap and objective over those of the closed form for non-negative features."""
    panels = {"w": "norm of a row of W", "h": "norm of a feature", "gap": "logit gap"}
    ratios = ends[["loss", "decay"]].copy()
    for name in panels:
        ratios[name] = ends[name] / ends[f"{name}_relu"]
        ratios[f"{name}_free"] = ends[f"{name}_theory"] / ends[f"{name}_relu"]
    ratios["objective"] = (1 + ends["excess"]) / (1 + ends["excess_relu"])
    ratios["objective_free"] = 1 / (1 + ends["excess_relu"])
    curves = by_loss(ratios)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 3.0), layout="constrained")
        axes = figure.subplots(1, 4)
        for ax, name in zip(axes, [*panels, "objective"], strict=True):
            over_seeds(ax, curves, "decay", name, "")
            for rows, color in zip(curves.values(), COLORS, strict=False):
                free = rows.groupby("decay")[f"{name}_free"].mean()
                ax.plot(range(len(free)), free, color=color, linestyle=":", linewidth=1)
            ax.axhline(1, color="0.6", linewidth=0.7, zorder=0)
            ax.set(title=panels.get(name, name), xlabel=r"decay $\lambda_W$")
        axes[0].set_ylabel("over the closed form, H non-negative\n(dotted: the free closed form)")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        plots.save(figure, folder / "theory.png")


if __name__ == "__main__":
    tyro.cli(main)
