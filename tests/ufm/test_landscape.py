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
SMALL = dataclasses.replace(GRID, losses=("mse",), lambda_b=(0.0,), scale=(1.0,), dense_limit=0)


def sweep(run=None, **settings):
    return ufm.landscape(SMALL, run, chunk=12, backend="vmap", show_progress=False, **settings)


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
    assert len(parts) == 2
    monkeypatch.setattr(module, "_solve_block", lambda *_args, **_settings: pytest.fail("solved"))
    pd.testing.assert_frame_equal(sweep(tmp_path / "run"), whole)
    monkeypatch.undo()
    parts[0].write_bytes(b"damaged")
    pd.testing.assert_frame_equal(sweep(tmp_path / "run"), whole)
    pd.testing.assert_frame_equal(ufm.read_landscape(tmp_path / "run"), whole)


def test_neither_chunks_nor_batches_change_the_points():
    whole = ufm.landscape(SMALL, chunk=20, backend="vmap", show_progress=False)
    pd.testing.assert_frame_equal(sweep(), whole, rtol=1e-6, atol=1e-10)


def test_exact_counts_equal_the_dense_ones(atlas):
    assert (atlas["negative"] == atlas["dense_negative"]).all()
    total = 4 * (6 + 1) + 12 * 6
    assert (atlas["negative"] + atlas["zero"] + atlas["positive"] == total).all()
    assert (atlas.loc[atlas["verdict"] == "strict_saddle", "below_escape"] == 0).all()


def test_processes_share_the_chunks_and_their_parts_make_the_whole(tmp_path, monkeypatch):
    whole = sweep()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        assert 0 < len(sweep(tmp_path / "run")) < len(whole)
    pd.testing.assert_frame_equal(ufm.read_landscape(tmp_path / "run"), whole)


def test_a_float32_search_ends_at_the_same_kind_of_points():
    found = sweep(search="float32")
    assert found["converged"].all()
    assert found["gradient_norm"].max() < 1e-10
    assert set(found["verdict"]) == {"strict_saddle", "global_minimizer"}


def test_unequal_classes_and_saddles_of_any_index_are_swept_too():
    grid = dataclasses.replace(
        SMALL,
        losses=("cross_entropy",),
        lambda_w=(1e-3,),
        imbalance=(1.0, 3.0),
        dense_limit=0,
        aims=("critical_point",),
        samples_per_class=(3, 6),
        start_scale=2.0,
    )
    table = ufm.landscape(grid, backend="vmap", show_progress=False)
    assert set(table["minority_samples"]) == {1, 2, 3, 6}
    assert table.loc[table["minority_samples"] < 3, "theory_value"].isna().all()
    assert table["converged"].mean() > 0.9
    good = table[table["converged"]]
    assert set(good["verdict"]) <= {"strict_saddle", "global_minimizer"}
    assert good["negative"].nunique() > 3


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ("cross",)}, "`losses?`.*cross_entropy"),
        ({"lambda_w": ()}, "`lambda_w`.*empty"),
        ({"lambda_h": (1e-3, -1.0)}, "`lambda_h`.*-1"),
        ({"gamma": (-1.0,)}, "`gamma`"),
        ({"ranks": (7,)}, "`ranks`.*4"),
        ({"imbalance": (0.5,)}, "`imbalance`.*0.5"),
        ({"aims": ("minimum",)}, "`aims`.*'minimizer'"),
        ({"starts": 0}, "`starts`"),
        ({"num_classes": (1,), "ranks": ()}, "`num_classes`"),
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
    with pytest.raises(InputError, match="another configuration.*chunk: 12 -> 31"):
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
