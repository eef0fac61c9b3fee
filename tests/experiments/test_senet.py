"""The experiments with self-expressive networks, end to end on few points."""

import dataclasses

import jax
import pandas as pd
import pytest

from experiments import senet_collapse, senet_images, senet_synthetic


@pytest.mark.usefixtures("no_type_checks")
def test_synthetic_subspaces(tmp_path, monkeypatch):
    smoke = dataclasses.replace(senet_synthetic.PRESETS["smoke"], sizes=(60,), seeds=1)
    monkeypatch.setitem(senet_synthetic.PRESETS, "smoke", smoke)
    senet_synthetic.main("smoke", tmp_path / "run")
    row = pd.read_csv(tmp_path / "run" / "splits" / "3-60-0.csv").iloc[0]
    assert row["exact"] < row["training points"] < 0.8
    history = pd.read_csv(tmp_path / "run" / "histories" / "3-60-0.csv")["error"]
    assert history.iloc[-1] < history.iloc[0]
    assert (tmp_path / "run" / "figures" / "senet_synthetic.png").exists()


@pytest.mark.usefixtures("no_type_checks")
def test_images(tmp_path, monkeypatch):
    smoke = dataclasses.replace(senet_images.PRESETS["smoke"], seeds=1)
    monkeypatch.setitem(senet_images.PRESETS, "smoke", smoke)
    senet_images.main("smoke", tmp_path / "run")
    tables = [pd.read_csv(path) for path in (tmp_path / "run" / "splits").glob("*.csv")]
    table = pd.concat(tables).set_index("method")
    nets, others = {"SENet"}, {"elastic net", "OMP", "neighbours", "k-means"}
    assert set(table.index) == nets | others
    assert (table["clustered"] == 150).all()
    assert (table.loc[["elastic net", "neighbours"], "accuracy"] > 0.6).all()
    assert (table.loc["SENet", "accuracy"] > 0.3).all()
    for name in ("senet_images", "senet_affinity"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").exists()


@pytest.mark.usefixtures("no_type_checks")
def test_features_of_trained_networks(tmp_path):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # optax
        senet_collapse.main("smoke", tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "splits" / "digits-0.csv").set_index("features")
    assert list(table.index) == ["pixels", "cross entropy", "Delta R"]
    assert (table[["elastic net", "nearest neighbours", "k-means"]] > 0.5).all(axis=None)
    assert (table["elastic net, error"] < table["SENet, error"]).all()
    assert (tmp_path / "run" / "figures" / "senet_collapse.png").exists()
