import importlib

import jax
import numpy as np
import pandas as pd
import pytest

from experiments import (
    collapse_fixed_etf,
    collapse_imbalance,
    collapse_theory,
    networks,
)
from ncjax import ufm
from ncjax.training import TrainConfig

NAMES = (
    "curves",
    "losses",
    "fixed_etf",
    "random_labels",
    "weight_decay",
    "rescaled_mse",
    "feature_dim",
    "imbalance",
    "theory",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_lists_runs_that_differ(name):
    module = importlib.import_module(f"experiments.collapse_{name}")
    presets = ("smoke", "cpu", "accelerator") + (() if name == "theory" else ("paper",))
    for preset in presets:
        configs = module.configs(preset)
        assert len({len(key) for key in configs} | {len(module.KEYS)}) == 1
        assert all(isinstance(config, TrainConfig) for config in configs.values())
        runs = list(configs.values())
        assert all(runs.count(config) == 1 for config in runs)


@pytest.mark.parametrize("name", ["losses", "theory"])
def test_an_experiment_trains_tabulates_and_draws_and_a_second_call_trains_nothing(
    name, tmp_path, monkeypatch, capsys
):
    module = importlib.import_module(f"experiments.collapse_{name}")
    module.main("smoke", tmp_path / "run")
    table = (tmp_path / "run" / f"collapse_{name}.md").read_text()
    assert table in capsys.readouterr().out
    (figure,) = (tmp_path / "run" / "figures").glob("*.png")
    drawn = figure.read_bytes()
    assert len(drawn) > 10_000
    monkeypatch.setattr("ncjax.training.engine.Engine.advance", None)
    module.main("smoke", tmp_path / "run")
    assert figure.read_bytes() == drawn


@pytest.mark.parametrize("name", [name for name in NAMES if name != "theory"])
def test_every_figure_is_drawn_from_a_table_alone(name, tmp_path):
    module = importlib.import_module(f"experiments.collapse_{name}")
    rng = np.random.default_rng(0)
    measured = [*networks.NC, "accuracy", "test_accuracy", *collapse_imbalance.COLUMNS]
    rows = [
        dict(zip(module.KEYS, key, strict=True))
        | {"epoch": epoch}
        | dict(zip(measured, rng.uniform(0.1, 0.9, len(measured)), strict=True))
        for key in module.configs("smoke")
        for epoch in (1, 2)
    ]
    module.draw(pd.DataFrame(rows), tmp_path)
    figures = list(tmp_path.glob("*.png"))
    assert figures
    assert all(figure.stat().st_size > 10_000 for figure in figures)


def test_a_fixed_head_with_as_few_features_as_classes_saves_what_the_papers_say():
    counts = collapse_fixed_etf.counted()
    resnet = counts.loc["ResNet-18, cifar stem"]
    assert (resnet["learned, full d"], resnet["ETF, d = 10"]) == (11_173_962, 8_859_762)
    assert resnet["saved, %"] == pytest.approx(20.71, abs=0.005)
    assert counts.loc["ResNet-18, imagenet stem", "saved, %"] == pytest.approx(20.70, abs=0.005)
    assert counts.loc["ResNet-50, cifar stem", "saved, %"] == pytest.approx(4.45, abs=0.005)


def test_an_exact_seli_geometry_is_found_as_such():
    counts = np.array([50, 50, 5, 5])
    with jax.enable_x64(True):
        target = ufm.seli(counts.astype(float))
        values, vectors = np.linalg.eigh(np.asarray(target.classifier))
        W = vectors * np.sqrt(np.maximum(values, 0))
        values, vectors = np.linalg.eigh(np.asarray(target.class_means))
        means = vectors * np.sqrt(np.maximum(values, 0))
    found = collapse_imbalance.measured(W, means, counts)
    assert found["w_to_seli"] < 1e-6
    assert found["means_to_seli"] < 1e-6
    assert found["w_to_etf"] > 0.05
    assert found["minority_cosine"] > -1 / 3


@pytest.mark.parametrize("loss", ["cross_entropy", "label_smoothing", "focal", "mse"])
@pytest.mark.usefixtures("x64")
def test_the_best_point_with_features_along_axes_costs_and_measures_what_is_said(loss):
    problem = ufm.Problem(4, 4, 5, loss, 5e-3, 2e-3, 1e-2)
    w, free = collapse_theory.nonnegative(problem)
    h = float(np.linalg.norm(free.params.H, axis=1).mean())
    centred = np.eye(4) - 1 / 4

    def value(w, h, gap):
        rows = gap / h * centred
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), w, rtol=1e-9)
        return float(ufm.objective(ufm.Params(rows, h * np.eye(4), free.params.b), problem))

    gap = float(free.logit_gap)
    np.testing.assert_allclose(value(w, h, gap), free.value, rtol=1e-9)
    for factor in (0.99, 1.01):  # none near it is better
        assert value(w / factor, factor * h, gap) > float(free.value)
        assert value(w * factor, h, factor * gap) > float(free.value)
    assert free.value > ufm.minimizer(problem).value


def test_the_last_rows_say_when_accuracy_was_full_and_how_far_nc1_fell():
    table = pd.DataFrame(
        {
            "loss": ["a"] * 3 + ["b"] * 2,
            "epoch": [1, 2, 3, 1, 2],
            "accuracy": [0.5, 1.0, 1.0, 0.5, 0.9],
            "nc1_pinv": [1.0, 0.1, 0.01, 2.0, 1.0],
        }
    )
    ends = networks.last(table, ("loss",)).set_index("loss")
    assert ends.loc["a", ["epoch", "terminal_epoch", "nc1_fall"]].tolist() == [3, 2, 0.01]
    assert np.isnan(ends.loc["b", "terminal_epoch"])
    assert ends.loc["b", "nc1_fall"] == 0.5


def test_seeds_are_averaged_with_their_spread():
    table = pd.DataFrame({"loss": ["a", "a", "b"], "value": [1.0, 3.0, 5.0]})
    shown = networks.spread(table, ("loss",), ("value",))
    assert shown["value"].tolist() == ["2 ± 1", "5"]
