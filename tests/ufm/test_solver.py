import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError

PROBLEM = (4, 6, 3, "cross_entropy", 5e-3, 2e-3, 1e-2)


def test_random_starts_reach_the_global_minimum_to_a_tiny_gradient():
    problem = ufm.Problem(*PROBLEM)
    starts = jax.vmap(lambda key: ufm.init(key, problem))(jax.random.split(jax.random.key(0), 3))
    found = jax.vmap(lambda start: ufm.minimize(start, problem))(starts)
    assert jnp.all(found.converged)
    assert found.gradient_norm.max() <= 1e-10
    values = jax.vmap(lambda p: ufm.objective(p, problem))(found.params)
    np.testing.assert_allclose(values, ufm.minimizer(problem).value, rtol=1e-12)


def test_a_critical_point_is_zero_outside_its_dimensions_and_stationary_in_all():
    problem = ufm.Problem(*PROBLEM)
    found = ufm.critical_point(jax.random.key(0), problem, 2)
    assert found.converged
    np.testing.assert_array_equal(found.params.W[:, 2:], 0)
    np.testing.assert_array_equal(found.params.H[:, 2:], 0)
    gradient = jax.grad(ufm.objective)(found.params, problem)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)) < 1e-10


def test_a_solver_that_runs_out_of_steps_says_so():
    problem = ufm.Problem(*PROBLEM)
    stopped = ufm.minimize(ufm.init(jax.random.key(0), problem), problem, max_steps=3)
    assert not stopped.converged
    assert stopped.steps == 3
    assert stopped.gradient_norm > 1e-9 * problem.force


def test_bad_settings_are_refused():
    problem = ufm.Problem(*PROBLEM)
    with pytest.raises(InputError, match="`rank`"):
        ufm.critical_point(jax.random.key(0), problem, 7)
    with pytest.raises(InputError, match="`max_steps`"):
        ufm.critical_point(jax.random.key(0), problem, 2, max_steps=0)
    with pytest.raises(InputError, match="`gradient_tol`"):
        ufm.critical_point(jax.random.key(0), problem, 2, gradient_tol=0.0)
