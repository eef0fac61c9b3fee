"""The experiments with self-expressive networks, end to end on few points."""

import dataclasses

import pandas as pd
import pytest

from experiments import senet_synthetic


@pytest.mark.usefixtures("no_type_checks")
def test_synthetic_subspaces(tmp_path, monkeypatch):
    smoke = dataclasses.replace(senet_synthetic.PRESETS["smoke"], sizes=(60,), seeds=1)
    monkeypatch.setitem(senet_synthetic.PRESETS, "smoke", smoke)
    senet_synthetic.main("smoke", tmp_path / "run")
    row = pd.read_csv(tmp_path / "run" / "splits" / "60-0.csv").iloc[0]
    assert row["exact"] < row["training points"] < 0.8
    history = pd.read_csv(tmp_path / "run" / "histories" / "60-0.csv")["error"]
    assert history.iloc[-1] < history.iloc[0]
    assert (tmp_path / "run" / "figures" / "senet_synthetic.png").exists()
