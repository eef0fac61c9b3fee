import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ncjax import plots


def assert_is_a_figure(path):
    with Image.open(path) as image:
        assert image.width > 600
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_critical_points_are_drawn_a_panel_a_loss(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "loss": ["cross_entropy"] * 20 + ["own loss"] * 20,
            "rank": list(range(4)) * 10,
            "objective": 1 + rng.random(40),
            "theory_value": 1.0,
            "escape_value": -rng.random(40),
            "lambda_w": 1e-3,
            "lambda_h": 1e-3,
        }
    )
    plots.critical_points(table, tmp_path / "points.png")
    assert_is_a_figure(tmp_path / "points.png")


def test_collapse_curves_bear_missing_values(tmp_path):
    epochs = np.array([1, 2, 4, 8])
    names = ("nc1_pinv", "nc2_means", "nc3_self_duality", "nc4_agreement")
    table = pd.DataFrame({"epoch": epochs} | {name: 0.5 / epochs for name in names})
    table.loc[2, "nc1_pinv"] = np.nan
    plots.collapse_curves({"mse": table, "another": table}, tmp_path / "curves.png")
    assert_is_a_figure(tmp_path / "curves.png")


def test_suspicious_images_are_shown_with_their_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (6, 5, 5, 3)).astype(np.uint8)
    table = pd.DataFrame(
        {"sample": [30, 10], "row": [3, 1], "given": [0, 1], "suggested": [1, 1], "wrong": True}
    )
    for names in (None, ("cat", "dog")):
        plots.label_issues(table, images, tmp_path / "issues.png", names=names)
        assert_is_a_figure(tmp_path / "issues.png")


@pytest.mark.parametrize("with_classifier", [True, False])
def test_geometry_of_means_classifier_and_margins(tmp_path, with_classifier):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5, 8))
    plots.gram_matrices({"focal": means}, tmp_path / "gram.png")
    assert_is_a_figure(tmp_path / "gram.png")
    W, margins = (means, rng.normal(size=99)) if with_classifier else (None, None)
    plots.measurement(means, W, margins, tmp_path / "measured.png")
    with Image.open(tmp_path / "measured.png") as image:
        assert image.width > (1500 if with_classifier else 400)
