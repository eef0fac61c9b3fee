import dataclasses
import importlib

import jax
import numpy as np
import pandas as pd
import pytest

from ncjax import ufm
from ncjax.checks import InputError
from tests.ufm.conftest import GRID

module = importlib.import_module("ncjax.ufm.landscape")
SMALL = dataclasses.replace(GRID, losses=("mse",), lambda_b=(0.0,), scale=(1.0,))


def sweep(run=None, **settings):
    return ufm.landscape(SMALL, run, chunk=32, backend="vmap", show_progress=False, **settings)


def test_the_table_has_one_row_for_every_point_of_the_product(atlas):
    assert len(atlas) == (3 * 2 * 2 + 2 * 2 * 2) * 5 * 2  # MSE has two scales
    columns = ["loss", "lambda_w", "lambda_b", "gamma", "scale", "requested_rank", "start"]
    assert not atlas.duplicated(columns).any()
    assert atlas["converged"].all()
    assert atlas.loc[atlas["loss"] == "cross_entropy", "gamma"].isna().all()


def test_the_summary_counts_and_compares(atlas):
    summary = ufm.summarize(atlas).set_index("loss")
    assert summary["points"].sum() == len(atlas)
    assert (summary["other"] == 0).all()
    assert summary.loc["cross_entropy", "worst gap"] < 1e-7
    assert pd.isna(summary.loc["focal", "worst gap"])
    assert (summary["index exceptions"] == 0).all()


def test_an_interrupted_sweep_solves_only_what_is_missing(tmp_path, monkeypatch):
    whole = sweep(tmp_path / "run")
    parts = sorted((tmp_path / "run" / "points").iterdir())
    assert len(parts) == 1
    monkeypatch.setattr(module, "_solve_block", lambda *_args, **_settings: pytest.fail("solved"))
    pd.testing.assert_frame_equal(sweep(tmp_path / "run"), whole)
    monkeypatch.undo()
    parts[0].write_bytes(b"damaged")
    pd.testing.assert_frame_equal(sweep(tmp_path / "run"), whole)


def test_chunks_do_not_change_the_points(atlas):
    chosen = atlas[(atlas["loss"] == "mse") & (atlas["lambda_b"] == 0) & (atlas["scale"] == 1)]
    small = sweep()
    for name in ("objective", "escape_value", "smallest_eigenvalue"):
        # The order of the grids differs in nothing but the dropped values, the keys do.
        assert set(small["verdict"]) == set(chosen["verdict"])
        assert small[name].min() == pytest.approx(chosen[name].min(), rel=1e-8)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ("cross",)}, "`losses?`.*cross_entropy"),
        ({"lambda_w": ()}, "`lambda_w`.*empty"),
        ({"lambda_h": (1e-3, -1.0)}, "`lambda_h`.*-1"),
        ({"gamma": (-1.0,)}, "`gamma`"),
        ({"ranks": (7,)}, "`ranks`.*6"),
        ({"starts": 0}, "`starts`"),
        ({"num_classes": (1,)}, "`num_classes`"),
        ({"losses": "mse"}, "`losses`.*list.*Write"),
        ({"lambda_w": 1e-3}, "`lambda_w`.*list"),
        ({"lambda_w": ("a",)}, "`lambda_w`.*number"),
    ],
)
def test_bad_grids_are_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(GRID, **changes)


def test_another_grid_in_the_same_folder_and_float32_are_refused(tmp_path):
    sweep(tmp_path / "run")
    with pytest.raises(InputError, match="another configuration.*chunk: 32 -> 31"):
        ufm.landscape(SMALL, tmp_path / "run", chunk=31)
    with jax.enable_x64(False), pytest.raises(InputError, match="float32.*enable_x64"):
        sweep()


def test_arrays_may_list_the_values_of_a_grid():
    grid = dataclasses.replace(SMALL, lambda_w=np.logspace(-3, -2, 3), num_classes=np.array([4]))
    assert grid.lambda_w == pytest.approx((1e-3, 10**-2.5, 1e-2))
    assert grid.num_classes == (4,)


def test_below_k_minus_one_dimensions_there_is_no_theory_value_and_no_more_ranks_than_d():
    grid = dataclasses.replace(SMALL, feature_dim=(2,), lambda_w=(8e-3,), ranks=(), starts=1)
    table = ufm.landscape(grid, backend="vmap", show_progress=False)
    assert list(table["requested_rank"]) == [0, 1, 2]
    assert table["theory_value"].isna().all()
    assert ufm.summarize(table)["minima"].item() == 0


def test_missing_spectra_are_no_exceptions_to_the_index_law(atlas):
    without = atlas.assign(negative=np.nan)
    assert (ufm.summarize(without)["index exceptions"] == 0).all()
