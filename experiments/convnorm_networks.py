"""What the experiments with convolutional normalisation share: the norms and a base network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import networks
from ncjax import plots
from ncjax.data import Corruption
from ncjax.plots import COLORS, MARKERS, STYLE

NORMS: dict[str, dict[str, Any]] = {
    "none": {"norm": "none"},
    "batch norm": {"norm": "batch"},
    "ConvNorm": {"norm": "conv"},
    "ConvNorm + BN": {"norm": "conv_batch"},
    "spectral norm + BN": {"norm": "spectral_batch"},
    "ONI + BN": {"norm": "oni_batch"},
    "OCNN + BN": {"norm": "batch", "orthogonality": 1e-3},
}
"""Changes of a config; the penalty's weight is that of the official code's configuration."""
CNN = dataclasses.replace(
    networks.CNN,
    corruption=Corruption(per_class=200),
    per_stage=2,
    epochs=15,
    batch_size=100,
    learning_rate=0.02,
    weight_decay=5e-4,
    measure_every=0,
)
DIGITS = dataclasses.replace(
    CNN,
    dataset="digits",
    corruption=Corruption(per_class=20),
    width=4,
    per_stage=1,
    epochs=2,
    batch_size=50,
)
RESNET18 = dataclasses.replace(
    networks.RESNET18,
    dataset="cifar10",
    dtype="float32",
    augment="crop_flip",
    epochs=120,
    learning_rate=0.1,
    weight_decay=1e-4,
    drops=(1 / 3, 2 / 3),
)
"""The official code's for CIFAR-10: a tenth of the rate at 40 and 80 epochs."""


def against(
    table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str], base: str = "batch norm"
) -> pd.DataFrame:
    """Differences to a norm's mean over seeds, in standard errors of the difference.

    Args:
        table: the last measurements, with `norm`.
        keys: what is compared within.
        columns: measures.
        base: the norm that others are compared with.
    """
    rows = []
    for key, here in table.groupby(list(keys), sort=False):
        groups = here.groupby("norm", sort=False)[list(columns)]
        mean, variance = groups.mean(), groups.var() / groups.count()
        for norm in mean.index:
            if norm != base and base in mean.index:
                error = np.sqrt(variance.loc[norm] + variance.loc[base])
                off = (mean.loc[norm] - mean.loc[base]) / error
                rows.append({**dict(zip(keys, key, strict=True)), "norm": norm, **off})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, panels: dict[str, pd.Series], ylabel: str, path: Path) -> None:
    """A panel for each title: its measure of every norm, mean and standard deviation over seeds."""
    norms = list(dict.fromkeys(table["norm"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * len(panels) + 0.8, 3.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            groups = values.groupby(table["norm"], sort=False)
            mean, deviation = groups.mean(), groups.std()
            for number, norm in enumerate(norms):
                if norm in mean.index:
                    style = {"color": COLORS[number], "marker": MARKERS[number], "capsize": 2}
                    ax.errorbar([number], [mean[norm]], [deviation[norm]], **style, label=norm)
            ax.set_xticks([])
            ax.set_title(title)
        axes[0].set_ylabel(ylabel)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
        plots.save(figure, path)
