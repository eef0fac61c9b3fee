import dataclasses
import importlib

import jax
import jax.numpy as jnp
import pandas as pd
import pytest

from ncjax import losses, ufm
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


def test_another_grid_in_the_same_folder_and_float32_are_refused(tmp_path):
    sweep(tmp_path / "run")
    with pytest.raises(InputError, match="another configuration.*chunk: 12 -> 31"):
        ufm.landscape(SMALL, tmp_path / "run", chunk=31)
    with jax.enable_x64(False), pytest.raises(InputError, match="float32.*enable_x64"):
        sweep()


def own_loss(z, y, gamma=1.0):
    """Cross entropy plus a multiple of the squared error probability."""
    value = losses.cross_entropy(z, y)
    return value + gamma * jnp.square(jnp.expm1(-value))


def test_a_loss_of_ones_own_is_swept_by_its_name(monkeypatch):
    monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))
    losses.register("own", own_loss)
    assert ufm.check_contrastive("own", 3).holds
    grid = ufm.Grid(("own",), (3,), (3,), (2,), lambda_w=(1e-3,), lambda_h=(1e-3,), starts=1)
    table = ufm.landscape(grid, backend="vmap", show_progress=False)
    assert list(table["verdict"]) == ["strict_saddle", "strict_saddle", "symmetric_minimum"]
    assert (table["loss"] == "own").all()
    assert (table["gamma"] == 3.0).all()


def test_below_k_minus_one_dimensions_there_is_no_theory_value_but_local_minima_are_proved():
    grid = dataclasses.replace(
        SMALL, losses=("cross_entropy",), feature_dim=(2,), lambda_w=(8e-3,), ranks=(), starts=1
    )
    table = ufm.landscape(grid, backend="vmap", show_progress=False)
    assert list(table["requested_rank"]) == [0, 1, 2]
    assert table["theory_value"].isna().all()
    assert list(table["verdict"]) == ["strict_saddle", "strict_saddle", "local_minimum"]
    assert list(table["zero"])[-1] == 2  # the rotation of the plane, and the free shift of the bias
    assert table["gap"].iloc[-1] > 1e-3
    assert ufm.summarize(table)["local minima"].item() == 1
