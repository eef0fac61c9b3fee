"""Digits with wrong labels: SOP beside other methods, and what they memorise (2202.14026).

An MLP of two hidden layers; 40 % of the labels are turned into others, drawn at random. Where
cleanlab is installed, what it takes for wrong is compared too.

    python -m experiments.sop_digits --preset cpu
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tyro
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPClassifier

from experiments import noisy_labels
from experiments.networks import spread
from experiments.tables import kept, markdown
from ncjax import data, progress, runs, training

NOISE = ("symmetric_others", 0.4)
BASES = {"smoke": noisy_labels.SMOKE, "cpu": noisy_labels.BASE}
SEEDS = {"smoke": 1, "cpu": 5}
FOUND = ["AUC", "estimated rate", "precision", "recall"]


def main(
    preset: Literal["smoke", "cpu"] = "cpu",
    run: Path = Path("runs/sop_digits"),
) -> None:
    """Tunes and trains all, and writes a table and a figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    base, seeds = BASES[preset], SEEDS[preset]
    ends = noisy_labels.compare("sop_digits", base, (NOISE,), NOISE, seeds, run)
    table = kept(run / "detection.csv", lambda: detection(ends))
    summary = markdown(spread(table, ["method"], FOUND))
    runs.write_atomically(run / "detection.md", summary + "\n")
    print(summary)


def detection(ends: pd.DataFrame) -> pd.DataFrame:
    """Which labels SOP, and cleanlab with out-of-sample predictions, take for wrong."""
    rows = []
    chosen = ends[ends["method"].str.startswith("SOP")]
    for row in progress.bar(list(chosen.itertuples()), desc="detection", unit=" runs"):
        network = training.load_run(row.run, member=int(row.member))
        wrong = network.dataset.labels != network.dataset.clean_labels
        issues = pd.read_csv(Path(row.run) / training.ISSUES).sort_values("row")
        if "member" in issues:
            issues = issues[issues["member"] == row.member]
        found = _scores(wrong, issues["score"], issues["wrong"])
        rows.append({"method": row.method, "seed": row.seed, **found})
        if row.method == "SOP" and importlib.util.find_spec("cleanlab"):
            found = _scores(wrong, *_by_cleanlab(network.dataset, network.config.widths))
            rows.append({"method": "cleanlab", "seed": row.seed, **found})
    return pd.DataFrame(rows)


def _scores(wrong: np.ndarray, score: np.ndarray, taken: np.ndarray) -> dict[str, float]:
    return {
        "AUC": roc_auc_score(wrong, score),
        "estimated rate": np.mean(taken),
        "precision": precision_score(wrong, taken),
        "recall": recall_score(wrong, taken),
    }


def _by_cleanlab(dataset: data.Dataset, widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and the labels taken for wrong, from five-fold cross-validation of an MLP."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    x = dataset.images.reshape(len(dataset.labels), -1)
    net = MLPClassifier(widths, early_stopping=True, random_state=0)
    p = cross_val_predict(net, x, dataset.labels, method="predict_proba")
    quality = get_label_quality_scores(dataset.labels, p)
    return 1 - quality, find_label_issues(dataset.labels, p, n_jobs=1)


if __name__ == "__main__":
    tyro.cli(main)
