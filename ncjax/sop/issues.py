"""Which labels are likely to be wrong, by what u and v have become."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ncjax import checks
from ncjax.sop.noise import FLOOR, Noise
from ncjax.types import AnyArray

SURE = 0.5
"""Of U: a label above it counts as wrong."""


def label_issues(noise: Noise, labels: AnyArray) -> pd.DataFrame:
    """All samples, the most suspicious first.

    Args:
        noise: u and v after training.
        labels: that were given, int `[N]`.

    Returns:
        Columns `sample` (row number), `score` (U + V, V the largest of its class: 0 where the
        network agrees, 2 where a label is surely wrong), `given`, `suggested` (the class of the
        largest V; the given one where V is below 1e-4) and `wrong` (U above a half).

    Raises:
        InputError: labels that do not fit u and v.
    """
    u, v = (np.asarray(leaf) for leaf in (noise.u, noise.v))
    labels = np.asarray(labels)
    checks.check_shape("labels", labels, (len(v),), "[N]")
    checks.check_labels("labels", labels, v.shape[1])
    rows = np.arange(len(v))
    U, V = np.minimum(u[:, 0] ** 2, 1), np.minimum(v**2, 1)
    V[rows, labels] = 0
    found = pd.DataFrame(
        {
            "sample": rows,
            "score": U + V.max(1),
            "given": labels,
            "suggested": np.where(V.max(1) > FLOOR, V.argmax(1), labels),
            "wrong": U > SURE,
        }
    )
    return found.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def noise_rate(noise: Noise) -> float:
    """The share of labels that count as wrong."""
    return float(np.mean(np.square(np.asarray(noise.u)) > SURE))
