"""The experiments with convolutional normalisation, end to end on little."""

import numpy as np
import pandas as pd
import pytest

from experiments import (
    convnorm_gan,
    convnorm_isometry,
    convnorm_networks,
    convnorm_robustness,
    convnorm_training,
)
from ncjax.training import TrainConfig


@pytest.mark.parametrize("module", [convnorm_isometry, convnorm_robustness, convnorm_training])
def test_every_preset_lists_runs_that_differ(module):
    for preset in module.SEEDS:
        configs = list(module.configs(preset).values())
        assert all(isinstance(config, TrainConfig) for config in configs)
        assert all(configs.count(config) == 1 for config in configs)


@pytest.mark.usefixtures("no_type_checks")
def test_norms_of_layers_in_training(tmp_path, monkeypatch):
    monkeypatch.setattr(convnorm_isometry, "SHAPES", ((8, 1, 10), (1, 8, 10)))
    convnorm_isometry.main("smoke", tmp_path / "run")
    kernels = pd.read_csv(tmp_path / "run" / "kernels.csv")
    assert (kernels["largest, normalised"] <= kernels["at most"] + 1e-6).all()
    assert (kernels["largest, normalised"] >= kernels["at least"] - 1e-6).all()
    assert (kernels["error of unit rows"] < 1e-6).all()
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    normalised = metrics[metrics["norm"] == "conv"]
    assert (normalised["largest"] <= np.sqrt(8) + 1e-3).all()
    assert (tmp_path / "run" / "figures" / "convnorm_isometry.png").exists()


@pytest.mark.usefixtures("no_type_checks")
def test_free_training_and_attacks(tmp_path):
    convnorm_robustness.main("smoke", tmp_path / "run")
    tables = [pd.read_csv(path) for path in (tmp_path / "run" / "attacks").glob("*.csv")]
    assert len(tables) == 1
    table = pd.concat(tables)
    assert (table["PGD-20"] <= table["FGSM"] + 0.02).all()
    assert (tmp_path / "run" / "figures" / "convnorm_robustness.png").exists()


@pytest.mark.usefixtures("no_type_checks")
def test_training_on_few_images(tmp_path):
    convnorm_training.main("smoke", tmp_path / "run")
    assert (tmp_path / "run" / "convnorm_training.md").exists()
    assert (tmp_path / "run" / "figures" / "convnorm_training.png").exists()


@pytest.mark.usefixtures("no_type_checks")
def test_generating_images(tmp_path, monkeypatch):
    monkeypatch.setattr(convnorm_gan, "NORMS", {"ConvNorm": "conv"})
    convnorm_gan.main("smoke", tmp_path / "run")
    folder = tmp_path / "run" / "conv-0.001-0"
    table = pd.read_csv(folder / "distances.csv")
    assert list(table["step"]) == [3, 6]
    assert np.isfinite(table["distance"]).all()
    for name in ("convnorm_gan", "convnorm_gan_images"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").exists()
    # What is kept on the way is gone on from: nothing is left to train here.
    (folder / "distances.csv").unlink()
    monkeypatch.setattr(convnorm_gan, "advancing", lambda *_: None)
    convnorm_gan.main("smoke", tmp_path / "run")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "distances.csv"), table)


def test_differences_are_counted_in_standard_errors():
    table = pd.DataFrame(
        {
            "study": "a",
            "norm": ["batch norm"] * 4 + ["ConvNorm"] * 4,
            "accuracy": [0.5, 0.7, 0.5, 0.7, 0.8, 1.0, 0.8, 1.0],
        }
    )
    (row,) = convnorm_networks.against(table, ["study"], ["accuracy"]).to_dict("records")
    error = np.sqrt(2 * np.var([0.5, 0.7, 0.5, 0.7], ddof=1) / 4)
    assert row["norm"] == "ConvNorm"
    assert row["accuracy"] == pytest.approx(0.3 / error)
