import jax
import numpy as np
import pandas as pd
import pytest
import scipy.optimize

from experiments import landscape_codes
from ncjax import frames


def test_in_few_dimensions_solutions_are_certified_minima_that_pay_the_codes_price(tmp_path):
    run = tmp_path / "run"
    landscape_codes.main("smoke", run)
    table = pd.read_csv(run / "codes.csv").set_index("d")
    assert (table["minima by exact count"] == table["solutions"]).all()
    np.testing.assert_allclose(table["price"], table["price of the code"], rtol=1e-3)
    np.testing.assert_allclose(table["one vs rest"], table["one vs rest of the code"], rtol=1e-6)
    assert table.loc[2, "best / convex - 1"] > 0.1
    assert abs(table.loc[3, "best / convex - 1"]) < 1e-9
    assert (run / "figures" / "codes.png").stat().st_size > 10_000
    assert (run / "summary.md").exists()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("K", "d"), [(6, 5), (7, 2), (6, 4), (8, 4), (9, 7)])
def test_prices_of_the_known_codes_are_those_of_the_docstring(K, d):
    expected = K - 1 + np.sqrt(2 * (K - d) / K)
    if d == 2:
        expected = K / (1 - np.cos(2 * np.pi / K))
    if d == K - 1:
        expected = K - 1
    np.testing.assert_allclose(landscape_codes.price(frames.spherical_code(K, d)), expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("K", "d"), [(5, 2), (5, 3)])
def test_no_logits_of_that_rank_with_a_margin_of_one_are_found_at_a_lower_price(K, d):
    true, wrong = np.nonzero(~np.eye(K, dtype=bool))

    def margins(x):
        W, H = x.reshape(2, K, d)
        return np.sum(H[true] * (W[true] - W[wrong]), axis=1) - 1

    starts = np.random.default_rng(0).standard_normal((4, 2 * K * d))
    found = [
        scipy.optimize.minimize(
            lambda x: x @ x / 2,  # the balanced factors' decay is the nuclear norm
            start,
            jac=lambda x: x,
            constraints={"type": "ineq", "fun": margins},
            method="SLSQP",
            options={"maxiter": 1000, "ftol": 1e-12},
        ).fun
        for start in starts
    ]
    price = landscape_codes.price(frames.spherical_code(K, d))
    np.testing.assert_allclose(min(found), price, rtol=1e-6)


def test_minima_are_told_apart_by_objective_and_blocks():
    two_simplices = np.array(jax.scipy.linalg.block_diag(np.eye(3) - 1 / 3, np.eye(4) - 1 / 4))
    assert landscape_codes.blocks(two_simplices) == "3+4"
    points = pd.DataFrame(
        {
            "K": 6,
            "d": [4, 4, 4, 5],
            "decay": 1e-3,
            "objective": [0.2, 0.1, 0.1 + 1e-12, 0.3],
            "verdict": "local_minimum",
            "blocks": ["3+3", "2+4", "2+4", "6"],
            "largest_cosine": 0.0,
            "one_vs_rest": 1.0,
        }
    )
    found = landscape_codes.minima(points)
    assert found["blocks"].tolist() == ["2+4", "3+3"]
    assert found["starts"].tolist() == [2, 1]
    np.testing.assert_allclose(found["excess over the best"], [0, 1])
