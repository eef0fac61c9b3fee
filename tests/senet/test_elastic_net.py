import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.senet import ElasticNet, exact_coefficients, optimality

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(30, 6))
POINTS /= np.linalg.norm(POINTS, axis=1, keepdims=True)
ROWS = np.array([0, 7, 29])
OWN = ROWS[:, None] == np.arange(30)
NET = ElasticNet(gamma=20.0, lam=0.7)


def measured(coefficients, exact=None):
    exact = exact_coefficients(NET, POINTS, ROWS, tolerance=1e-12) if exact is None else exact
    return optimality(NET, POINTS[ROWS], POINTS, coefficients, exact, OWN)


def test_the_solver_leaves_no_slope_in_the_papers_objective():
    exact = exact_coefficients(NET, POINTS, ROWS, tolerance=1e-12)
    assert np.all(exact[OWN] == 0)
    assert 0 < (exact != 0).sum(1).max() < 29
    found = measured(exact, exact)
    np.testing.assert_allclose(found.kkt_residual, 0, atol=1e-6)
    assert found.excess == 0
    assert np.all(found.relative_error == 0)


def test_the_slope_bounds_how_far_coefficients_are_from_the_exact_ones():
    exact = exact_coefficients(NET, POINTS, ROWS, tolerance=1e-12)
    for size in (1e-3, 0.1, 1.0):
        other = np.where(OWN, 0, exact + size * RNG.normal(size=exact.shape))
        found = measured(other, exact)
        apart = np.linalg.norm(other - exact, axis=1)
        assert np.all(found.kkt_residual >= (1 - NET.lam) * apart)
        assert found.excess > 0
        np.testing.assert_allclose(found.relative_error, apart / np.linalg.norm(exact, axis=1))


def test_at_no_zero_the_slope_is_the_gradient():
    other = np.where(OWN, 0, RNG.normal(size=(3, 30)))

    def objective(c):
        return NET.value(c, POINTS[ROWS] - c @ POINTS).sum()

    slopes = np.where(OWN, 0, jax.grad(objective)(jnp.asarray(other)))
    found = measured(other)
    np.testing.assert_allclose(found.kkt_residual, np.linalg.norm(slopes, axis=1), rtol=1e-10)


def test_what_is_refused():
    with pytest.raises(InputError, match="`gamma`"):
        ElasticNet(gamma=0.0).check()
    for lam in (0.0, 1.0):
        with pytest.raises(InputError, match="`lam`"):
            ElasticNet(lam=lam).check()


def test_points_stay_as_they_are_and_rows_must_be_there():
    points = np.random.default_rng(0).normal(size=(6, 3))
    points.flags.writeable = False
    exact_coefficients(ElasticNet(50.0), points, np.array([0, 5]))
    with pytest.raises(InputError, match="`rows`: got 6"):
        exact_coefficients(ElasticNet(50.0), points, np.array([0, 6]))
    with pytest.raises(InputError, match="`gamma`"):
        exact_coefficients(ElasticNet(0.0), points, np.array([0]))
