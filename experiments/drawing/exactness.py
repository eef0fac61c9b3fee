"""Figure of `experiments.landscape_exactness`: errors of spectra, and how fast Newton arrives."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ncjax.plots import COLORS, LOSS_NAMES, MARKERS, STYLE, save


def draw(spectra: pd.DataFrame, newton: pd.DataFrame, reached: float, path: Path) -> None:
    """The error of the closed spectrum by size, and how fast Newton's starts get there.

    Args:
        spectra: one row a problem.
        newton: one row a start that had all its steps.
        reached: the gradient norm at which a start counts as solved.
        path: of the PNG file.
    """
    path.parent.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, (kind, cases) in enumerate(spectra.groupby("kind", sort=False)):
            style = {"color": COLORS[number], "marker": MARKERS[number], "linestyle": ""}
            worst = cases.groupby("parameters")["error"].max()
            left.plot(worst, **style, markersize=3, alpha=0.8, label=kind)
        aim = {"color": "0.4", "linewidth": 0.8, "linestyle": "--"}
        left.axhline(1e-12, **aim, label="aim")
        left.set(xscale="log", yscale="log", ylim=(1e-16, 2e-12))
        left.set(xlabel="parameters, K(d+1) + Nd", ylabel="largest error of an eigenvalue / norm")
        left.set_title("closed spectrum against the dense Hessian")
        for number, (loss, cases) in enumerate(newton.groupby("loss", sort=False)):
            steps_to = np.where(cases["gradient_norm"] <= reached, cases["steps"], np.inf)
            steps = np.arange(cases["max_steps"].iloc[0] + 1)
            left_over = (steps_to[None, :] > steps[:, None]).mean(1)
            right.step(steps, left_over, where="post", color=COLORS[number], label=LOSS_NAMES[loss])
        right.axhline(0.01, **aim, label="aim")
        right.set(yscale="log", xlabel="Newton steps", ylabel="share of starts not there yet")
        right.set_title(r"Newton from random starts to $\|\nabla f\| \leq 10^{-10}$")
        for ax in (left, right):
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8)
        save(figure, path)
