import numpy as np
import pytest

from experiments import stays


def test_growth_is_that_of_heavy_ball_on_a_saddle():
    path = [1.0, 1.0]
    for _ in range(300):
        path.append(path[-1] + 0.1 * 0.3 * path[-1] + 0.9 * (path[-1] - path[-2]))
    expected = stays.growth(np.array(0.1), np.array(0.3), np.array(0.9))
    assert path[-1] / path[-2] == pytest.approx(expected, rel=1e-12)
    assert stays.growth(np.array(0.1), np.array(0.3), np.array(0.0)) == pytest.approx(1.03)


def test_stays_are_deep_and_may_begin_with_the_path():
    steps = np.arange(400)
    path = np.exp(0.05 * np.minimum(steps, 100)) * np.exp(-0.05 * np.maximum(steps - 100, 0))
    path = np.maximum(path, np.exp(0.05 * (steps - 300)))
    (first, second) = stays.stays_of(1e-3 * path, momentum=0.0)
    assert (first["entry"], first["deepest"]) == (0, 0)
    assert first["limit"] == pytest.approx(1e-3 * path[100] / 3)
    assert second["deepest"] == 250
    assert path[second["exit"]] > second["limit"] / 1e-3 >= path[second["exit"] - 1]
    shallow = 1 - 0.5 * np.exp(-(((steps - 200) / 20) ** 2))
    assert stays.stays_of(shallow, momentum=0.0) == []
