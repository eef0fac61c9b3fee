"""How alike the features of two networks are: linear centred kernel alignment (1905.00414)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from ncjax import training


def compared(ends: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean linear CKA of features, on training and test images.

    Between the losses of one seed, and between the seeds of one loss (NaN with one seed).

    Args:
        ends: a row a run: `loss`, `seed`, `run`, `member`.
        by: columns; runs are compared within a group.

    Returns:
        A row a group: `training, losses`, `training, seeds`, `test, losses`, `test, seeds`.
    """
    rows = []
    for names, group in ends.groupby(list(by), sort=False):
        features = {
            (row.loss, row.seed): features_of(Path(row.run), row.member)
            for row in group.itertuples()
        }
        pairs = list(itertools.combinations(features, 2))
        losses = [p for p in pairs if p[0][1] == p[1][1]]
        seeds = [p for p in pairs if p[0][0] == p[1][0]]
        row = dict(zip(by, names, strict=True))
        for part in ("training", "test"):
            for name, chosen in (("losses", losses), ("seeds", seeds)):
                values = [cka(features[a][part], features[b][part]) for a, b in chosen]
                row[f"{part}, {name}"] = float(np.mean(values)) if values else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def features_of(run: Path, member: int) -> dict[str, np.ndarray]:
    """A network's features of two thousand training images, spread evenly, and test images."""
    found = training.load_run(run, member=member)
    data = found.dataset
    chosen = np.linspace(0, len(data.images) - 1, 2000).round().astype(int)
    images = {"training": data.images[chosen], "test": data.test_images[:2000]}
    apply = jax.jit(lambda variables, x: found.model.apply(variables, x, train=False)[1])
    return {part: np.asarray(apply(found.variables, data.inputs(x))) for part, x in images.items()}


def cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment, 1 for features equal up to rotation and scale."""
    first, second = first - first.mean(0), second - second.mean(0)
    cross = np.square(first.T @ second).sum()
    return cross / (np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second))
