import pandas as pd
import pytest

from experiments import landscape_training as training


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("training") / "run"
    training.main("smoke", run)
    return run


def test_small_starts_meet_the_saddles_in_turn_and_large_ones_none(run):
    runs = pd.read_csv(run / "runs.csv")
    descent = runs[runs["momentum"] == 0].set_index("scale")
    assert (descent.loc[1e-6, ["rank 0", "rank 1"]] == 1).all()
    assert (runs.loc[runs["scale"] == 1, ["rank 0", "rank 1"]] == 0).to_numpy().all()
    assert (runs.loc[runs["scale"] < 1, "rank 0"] == 1).all()


def test_all_runs_end_at_a_certified_global_minimiser(run):
    runs = pd.read_csv(run / "runs.csv")
    assert (runs["end"] == "global_minimizer").all()
    assert (runs["f - f* before Newton"] < 1e-4).all()


def test_paths_leave_saddles_at_the_exact_rate(run):
    saddles = pd.read_csv(run / "saddles.csv")
    assert set(saddles["rank"]) == {0, 1}
    assert set(saddles["momentum"]) == {0, 0.9}
    assert (saddles["largest_growth_error"] < saddles["closest"]).all()
    assert (saddles["dwell_error"] < 0.03).all()
    for name in ("paths", "growth"):
        assert (run / "figures" / f"{name}.png").stat().st_size > 10_000
