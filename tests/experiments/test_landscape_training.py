import numpy as np
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


def test_growth_is_that_of_heavy_ball_on_a_saddle():
    path = [1.0, 1.0]
    for _ in range(300):
        path.append(path[-1] + 0.1 * 0.3 * path[-1] + 0.9 * (path[-1] - path[-2]))
    expected = training.growth(np.array(0.1), np.array(0.3), np.array(0.9))
    assert path[-1] / path[-2] == pytest.approx(expected, rel=1e-12)
    assert training.growth(np.array(0.1), np.array(0.3), np.array(0.0)) == pytest.approx(1.03)


def test_stays_are_deep_and_may_begin_with_the_path():
    steps = np.arange(400)
    path = np.exp(0.05 * np.minimum(steps, 100)) * np.exp(-0.05 * np.maximum(steps - 100, 0))
    path = np.maximum(path, np.exp(0.05 * (steps - 300)))
    (first, second) = training.stays_of(1e-3 * path, momentum=0.0)
    assert (first["entry"], first["deepest"]) == (0, 0)
    assert first["limit"] == pytest.approx(1e-3 * path[100] / 3)
    assert second["deepest"] == 250
    assert path[second["exit"]] > second["limit"] / 1e-3 >= path[second["exit"] - 1]
    shallow = 1 - 0.5 * np.exp(-(((steps - 200) / 20) ** 2))
    assert training.stays_of(shallow, momentum=0.0) == []
