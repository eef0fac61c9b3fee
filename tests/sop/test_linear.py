"""SOP of linear models: gradient descent, where gradient flow ends, and the convex problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import parallel
from ncjax.checks import InputError
from ncjax.sop import linear

pytestmark = pytest.mark.usefixtures("x64")


def problem(seed, rank=5, sparsity=10):
    J, clean, s = linear.random_problem(jax.random.key(seed), rank, sparsity, most_rank=rank)
    return J, clean + s, s


def error(found, s):
    return float(jnp.linalg.norm(found - s) / jnp.linalg.norm(s))


def over_seeds(solve, count):
    """Relative errors of s at r = 5, k = 10, gamma = 1e-8, alpha = 10."""

    def one(key, _):
        J, clean, s = linear.random_problem(key, 5, 10, most_rank=5)
        return jnp.linalg.norm(solve(J, clean + s).s - s) / jnp.linalg.norm(s)

    return parallel.sweep(one, np.arange(count), key=jax.random.key(0), together=5)


def test_sparse_errors_are_recovered_exactly():
    descended = over_seeds(lambda J, y: linear.descend(J, y, steps=200_000), 10)
    assert (descended < 1e-6).sum() >= 9
    assert (over_seeds(linear.limit, 10) < 1e-6).sum() >= 9


def test_descent_is_the_literal_one():
    J, y, _ = map(np.asarray, problem(0))
    theta, u, v = np.zeros(5), np.full(100, 1e-2), np.full(100, 1e-2)
    for _ in range(500):
        R = J @ theta + u * u - v * v - y
        slopes = J.T @ R, 2 * u * R, -2 * v * R
        theta = theta - 1e-3 * slopes[0]
        u, v = (part - 3 * 1e-3 * slope for part, slope in ((u, slopes[1]), (v, slopes[2])))
    found = linear.descend(J, y, gamma=1e-2, alpha=3.0, steps=500, step_size=1e-3)
    np.testing.assert_allclose(found.theta, theta, rtol=1e-10)
    np.testing.assert_allclose(found.s, u * u - v * v, atol=1e-12)


def test_descent_stays_in_the_row_space():
    """So that J in coordinates of that space gives the same errors."""
    J, y, _ = problem(0)
    wide = J @ jnp.linalg.qr(jax.random.normal(jax.random.key(1), (30, 5)))[0].T
    narrow = linear.descend(J, y, steps=2000)
    np.testing.assert_allclose(linear.descend(wide, y, steps=2000).s, narrow.s, atol=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 0.2, 0.1])
def test_descent_ends_where_gradient_flow_does_whatever_gamma(gamma):
    J, y, _ = problem(1, rank=3)
    end = linear.limit(J, y, gamma=gamma, alpha=1.0)
    assert end.converged
    found = linear.descend(J, y, gamma=gamma, alpha=1.0, steps=50_000, step_size=4e-3)
    assert found.converged
    # Steps of gradient descent are finite: it ends off by O(step_size).
    np.testing.assert_allclose(found.s, end.s, atol=5e-3)
    finer = linear.descend(J, y, gamma=gamma, alpha=1.0, steps=200_000, step_size=1e-3)
    off = [float(jnp.abs(one.s - end.s).max()) for one in (found, finer)]
    assert off[1] < 0.3 * off[0]


def test_the_end_of_gradient_flow_is_the_minimum_of_a_smooth_penalty():
    """Of |theta|^2 / 2 + sum [s arsinh(s / 2 gamma^2) - sqrt(s^2 + 4 gamma^4)] / 4 alpha."""
    J, y, _ = problem(2)
    gamma, alpha = 0.1, 2.0

    def objective(theta):
        s = y - J @ theta
        smooth = s * jnp.arcsinh(s / (2 * gamma**2)) - jnp.sqrt(s**2 + 4 * gamma**4)
        return jnp.square(theta).sum() / 2 + smooth.sum() / (4 * alpha)

    end = linear.limit(J, y, gamma=gamma, alpha=alpha)
    np.testing.assert_allclose(jax.grad(objective)(end.theta), 0, atol=1e-9)


def test_it_tends_to_the_convex_problem():
    """At lambda fixed, as gamma falls, where signal and errors can't be told apart."""
    J, y, s = problem(0, rank=40)
    exact = linear.convex_solution(np.asarray(J), np.asarray(y), 0.9)
    assert error(exact.s, s) > 1e-3
    distances = []
    for gamma in (1e-4, 1e-16, 1e-64):
        alpha = -np.log(gamma) / 1.8
        assert linear.sparsity_weight(gamma, alpha) == pytest.approx(0.9)
        distances.append(error(linear.limit(J, y, gamma=gamma, alpha=alpha).s, exact.s))
    assert distances[0] > 2 * distances[1] > 4 * distances[2]
    assert distances[2] < 0.02


def test_the_convex_solution_meets_the_optimality_conditions():
    J, y, _ = (np.asarray(leaf) for leaf in problem(3, rank=20, sparsity=25))
    found = linear.convex_solution(J, y, 0.9)
    nu = np.linalg.lstsq(J.T, np.asarray(found.theta), rcond=None)[0]
    # Any nu with J^T nu = theta differs by the kernel of J^T: fit the free part where s is zero.
    off = np.abs(np.asarray(found.s)) > 1e-8
    kernel = np.linalg.svd(J.T)[2][20:].T
    target = 0.9 * np.sign(np.asarray(found.s))[off]
    nu = nu + kernel @ np.linalg.lstsq(kernel[off], target - nu[off], rcond=None)[0]
    np.testing.assert_allclose(nu[off], target, atol=1e-6)
    assert found.converged


def test_too_small_a_weight_fails():
    J, y, s = problem(0)
    assert error(linear.limit(J, y, alpha=200.0).s, s) > 1e-2


def test_problems_have_the_rank_and_the_errors_asked_for():
    J, clean, s = linear.random_problem(jax.random.key(0), 3, 7, most_rank=6)
    assert J.shape == (100, 6)
    assert np.linalg.matrix_rank(J) == 3
    assert (s != 0).sum() == 7
    fitted = J @ np.linalg.lstsq(J, clean, rcond=None)[0]
    np.testing.assert_allclose(fitted, clean, atol=1e-10)


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": 1.0}, "gamma"),
        ({"alpha": 0.0}, "alpha"),
        ({"y": np.ones(99)}, "y"),
        ({"J": np.full((100, 5), np.nan)}, "J"),
    ],
)
@pytest.mark.parametrize("solve", [linear.limit, linear.descend])
@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused(changed, argument, solve):
    J, y, _ = problem(0)
    with pytest.raises(InputError, match=f"`{argument}`"):
        solve(**({"J": J, "y": y, "gamma": 1e-8, "alpha": 10.0} | changed))
