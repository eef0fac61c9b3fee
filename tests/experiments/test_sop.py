"""The experiments with noisy labels, end to end on little."""

import dataclasses

import pandas as pd
import pytest

from experiments import noisy_labels, sop_digits, sop_fashion, sop_linear
from ncjax.training import TrainConfig

FEW = {
    "cross entropy": ({"learning_rate": 0.1}, {"learning_rate": 1e-5}),
    "SOP": ({"method": "sop"},),
}


@pytest.mark.usefixtures("no_type_checks")
def test_linear_models(tmp_path, monkeypatch):
    few = {"ranks": (3, 40), "seeds": 1, "steps": 500, "weights": (1.0,), "traced": (100,)}
    smoke = dataclasses.replace(sop_linear.PRESETS["smoke"], **few)
    monkeypatch.setitem(sop_linear.PRESETS, "smoke", smoke)
    sop_linear.main("smoke", tmp_path / "run")
    tables = {name: pd.read_csv(tmp_path / "run" / f"{name}.csv") for name in sop_linear.METHODS}
    for name in ("flow", "tiny", "convex"):
        errors = tables[name].groupby("rank")["error"].max()
        assert errors[3] < 1e-6 < 1e-2 < errors[40], name
    near = {name: (tables[name]["error"] - tables["convex"]["error"]).abs() for name in tables}
    assert (near["tiny"] < near["flow"])[tables["flow"]["rank"] == 40].all()
    for name in ("map", "errors"):
        assert (tmp_path / "run" / "figures" / f"sop_linear_{name}.png").exists()


@pytest.mark.usefixtures("no_type_checks")
def test_noisy_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(noisy_labels, "grids", lambda _: FEW)
    sop_digits.main("smoke", tmp_path / "run")
    tuning = pd.read_csv(tmp_path / "run" / "tuning" / "tuning.csv")
    assert len(tuning) == 3
    assert "'learning_rate': 0.1" in capsys.readouterr().out.split("device")[-2]
    ends = pd.read_csv(tmp_path / "run" / "ends.csv")
    assert len(ends) == 3  # SOP with chosen and with default rates
    assert (ends["oracle"] >= ends["stopped"]).all()
    assert (ends["auc"] > 0.9).all()
    detected = pd.read_csv(tmp_path / "run" / "detection.csv").set_index("method")
    assert (detected["AUC"] > 0.8).all()
    assert (tmp_path / "run" / "figures" / "noisy_labels.png").exists()


@pytest.mark.parametrize("preset", list(sop_fashion.BASES))
def test_grids_are_of_runs_that_differ_and_are_fit(preset):
    base = sop_fashion.BASES[preset]
    for tried in noisy_labels.grids(base).values():
        configs = [noisy_labels.config_of(base, one, sop_fashion.NOISES[0], 0) for one in tried]
        assert all(isinstance(one, TrainConfig) for one in configs)
        assert all(configs.count(one) == 1 for one in configs)
    assert noisy_labels.noise_name(sop_fashion.NOISES[0]) == "symmetric 40 %"
