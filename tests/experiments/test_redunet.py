"""The experiments with rate reduction, end to end on few samples."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from experiments import (
    mcr2_training,
    redunet_backprop,
    redunet_incremental,
    redunet_shift,
    redunet_vector,
    splits,
)


@pytest.fixture(autouse=True)
def _as_users_have_it(no_type_checks):
    """Scikit-learn and optax promote types."""


def run(experiment, folder, monkeypatch, **changes):
    """Runs the smoke preset of one seed, and whether its table and figures are there."""
    smoke = dataclasses.replace(experiment.PRESETS["smoke"], seeds=1, **changes)
    monkeypatch.setitem(experiment.PRESETS, "smoke", smoke)
    with_promotion(experiment.main, "smoke", folder)
    name = experiment.__name__.rpartition(".")[2]
    assert (folder / f"{name}.md").exists()
    figures = list((folder / "figures").glob("*.png"))
    assert figures
    assert all(figure.stat().st_size > 10_000 for figure in figures)
    return pd.concat(map(pd.read_csv, sorted((folder / "splits").glob("*.csv"))))


def with_promotion(function, *arguments):
    import jax

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return function(*arguments)


def test_vectors(tmp_path, monkeypatch):
    table = run(redunet_vector, tmp_path / "run", monkeypatch, eps=(0.1**0.5,))
    scores = table.pivot_table("accuracy", "data", "method")
    assert scores.loc["gaussians"].min() > 0.9
    assert scores.loc["digits", "ReduNet, network"] > 0.8


def test_shifts(tmp_path, monkeypatch):
    table = run(redunet_shift, tmp_path / "run", monkeypatch).set_index("method")
    ours = table.loc["shift-invariant ReduNet"]
    assert ours["equivariance"] < 1e-5
    assert ours["shifted"] == ours["plain"]  # circular shifts
    assert ours["equivariance, float64"] < 1e-12
    assert ours["shifted"] > 0.4 > table.loc["raw, subspace", "shifted"]
    moduli = table.loc["Fourier moduli, kNN"]
    assert moduli["shifted"] == moduli["plain"] > 0.4


def test_back_propagation(tmp_path, monkeypatch):
    table = run(redunet_backprop, tmp_path / "run", monkeypatch)
    start = table[table["epoch"] == 0].set_index("method")["accuracy"]
    assert start["fine-tuned"] == start["constructed"] > start["from random"]
    random = table[table["method"] == "from random"].set_index("epoch")["training"]
    assert random[2] > random[0]


def test_tasks_one_after_the_other(tmp_path, monkeypatch):
    table = run(redunet_incremental, tmp_path / "run", monkeypatch)
    ends = table[table["task"] == 5].set_index("method")
    assert ends.loc["ReduNet, incremental", "forgetting"] < 0.1
    assert ends.loc["MLP, fine-tuned", "forgetting"] > 0.5
    kept = ends["kept_kB"]
    assert kept["ReduNet, incremental"] == (10 * 64**2 * 4 + 10 * 4) / 1e3
    assert kept["MLP, replay of as many bytes"] <= kept["ReduNet, incremental"]
    plain = pd.read_csv(tmp_path / "run" / "plain-digits.csv").iloc[0]
    assert plain["other predictions than joint"] == 0
    for name in "EC":
        assert plain[f"{name}, from joint"] < 1e-5 < plain[f"{name}, from plain"] < 0.5


def test_training_by_rate_reduction(tmp_path, monkeypatch):
    table = run(mcr2_training, tmp_path / "run", monkeypatch).set_index("method")
    assert table.loc["Delta R", "reduction"] > table.loc["cross entropy", "reduction"]
    assert table.loc["Delta R", "between"] < table.loc["raw samples", "between"]
    costs = pd.read_csv(tmp_path / "run" / "costs.csv")
    assert costs["classes"].tolist() == [3, 6]
    assert costs.notna().all(axis=None)


@pytest.mark.parametrize("name", ["gaussians", "iris", "signals", "digits"])
def test_no_sample_is_in_two_parts_of_a_split(name):
    parts = splits.split(name, 0, 10, 200)
    rows = [
        {tuple(x.ravel()) for x in part[0]} for part in (parts.train, parts.validation, parts.test)
    ]
    if name != "iris":  # which has the same flower twice
        assert not rows[0] & rows[1]
        assert not rows[0] & rows[2]
        assert not rows[1] & rows[2]
    counts = np.bincount(parts.train[1])
    assert set(counts) == {10}
    other = splits.split(name, 1, 10, 200)
    assert not np.array_equal(other.train[0], parts.train[0])
