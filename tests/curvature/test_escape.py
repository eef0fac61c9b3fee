import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature, ufm
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


def double_well(x):
    return (x[0] ** 2 - 1) ** 2 + 3 * x[1] ** 2


def test_a_step_along_either_sign_of_negative_curvature_decreases_f():
    for direction in (jnp.array([1.0, 0.0]), jnp.array([-1.0, 0.0])):
        step = curvature.negative_curvature_step(double_well, jnp.zeros(2), direction)
        np.testing.assert_allclose(step.value, double_well(step.params), rtol=1e-12)
        np.testing.assert_allclose(step.decrease, 1 - step.value, rtol=1e-12)
        assert step.decrease > 0.25
        np.testing.assert_allclose(step.params, step.length * direction, atol=1e-12)


def test_the_sign_is_that_of_descent_where_there_is_a_slope():
    step = curvature.negative_curvature_step(
        double_well, jnp.array([-0.01, 0.0]), jnp.array([1.0, 0.0])
    )
    assert step.length < 0
    assert step.params[0] < -0.01


def test_no_step_is_taken_where_f_does_not_fall():
    step = curvature.negative_curvature_step(
        lambda x: (x**2).sum(), jnp.zeros(2), jnp.array([1.0, 0.0])
    )
    assert (step.length, step.decrease) == (0, 0)


def test_steps_map_over_points():
    points = jnp.array([[0.0, 0.0], [0.01, 0.0], [-0.01, 0.0]])
    run = jax.vmap(
        lambda x: curvature.negative_curvature_step(double_well, x, jnp.array([1.0, 0.0])).decrease
    )
    assert (run(points) > 0.2).all()


def test_an_inconclusive_point_is_minimised_until_it_is_decided():
    def f(x):
        return (x[0] ** 2 - 1) ** 2 + 1e4 * x[1] ** 2

    start = jnp.array([0.01, 0.0])
    assert curvature.examine(f, start, gradient_tol=1.0).label == "inconclusive"
    way = curvature.escape(f, start, gradient_tol=1.0)
    assert way.converged
    np.testing.assert_allclose(jnp.abs(way.params), [1, 0], atol=0.02)


def test_from_any_saddle_of_the_model_the_way_ends_at_the_global_minimiser(problem):
    def f(params):
        return ufm.objective(params, problem)

    for rank in (0, 1):
        saddle = ufm.critical_point(jax.random.key(rank), problem, rank=rank).params
        way = curvature.escape(f, saddle, gradient_tol=1e-10)
        assert way.converged
        assert way.examinations[0].label == "strict_saddle"
        assert (np.diff(way.values) < 0).all()
        assert ufm.certify(way.params, problem).label == "global_minimizer"


def test_a_network_leaves_the_saddle_where_all_its_weights_are_zero(classifier):
    f = curvature.data_hessian(classifier.losses, classifier.data, weight_decay=0.01)
    zero = jax.tree.map(jnp.zeros_like, classifier.params)
    way = curvature.escape(f, zero)
    assert way.examinations[0].label == "strict_saddle"
    assert way.converged
    assert way.values[-1] < 0.9 * way.values[0]
    stuck = curvature.escape(f, zero, max_saddles=0)
    assert not stuck.converged
    assert len(stuck.values) == 1


def test_bad_input_is_refused_by_name():
    for direction in (jnp.ones(3), jnp.zeros(2), jnp.array([jnp.nan, 1.0])):
        with pytest.raises(InputError, match="`direction`"):
            curvature.negative_curvature_step(double_well, jnp.zeros(2), direction)
    with pytest.raises(InputError, match="`max_steps`"):
        curvature.escape(double_well, jnp.zeros(2), max_steps=0)
