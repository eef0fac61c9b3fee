import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError

PROBLEM = (4, 6, 3, "cross_entropy", 5e-3, 2e-3, 1e-2)


@functools.partial(jax.jit, static_argnames="aim")
def solved_all(starts, problem, aim="minimizer"):
    return jax.vmap(lambda start: ufm.solve(start, problem, aim=aim))(starts)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "focal"])
def test_random_starts_reach_the_minimum_to_a_tiny_gradient_in_few_steps(loss, compact):
    problem = ufm.Problem(4, 6, 3, loss, 5e-3, 2e-3, 1e-2)
    keys, scales = jax.random.split(jax.random.key(0), 6), jnp.repeat(jnp.array([0.1, 1.0]), 3)
    starts = jax.vmap(lambda key, scale: ufm.init(key, problem, scale, compact=compact))
    found = solved_all(starts(keys, scales), problem)
    assert found.converged.all()
    assert found.gradient_norm.max() <= 1e-10
    assert found.steps.max() <= 60
    values = jax.jit(jax.vmap(lambda p: ufm.objective(p, problem)))(found.params)
    np.testing.assert_allclose(values, ufm.minimizer(problem).value, rtol=1e-12)


def test_saddles_of_many_indices_are_found_directly():
    problem = ufm.Problem(5, 6, 4, "cross_entropy", 2e-3, 1e-3, 1e-2)
    keys = jax.random.split(jax.random.key(0), 40)
    starts = jax.vmap(lambda key: ufm.init(key, problem, 2.0, compact=True))(keys)
    found = solved_all(starts, problem, aim="critical_point")
    counts = jax.vmap(lambda p: ufm.inertia(p, problem).negative)(found.params)
    assert found.converged.mean() > 0.9
    assert len(set(counts[found.converged].tolist())) >= 3
    assert (counts[found.converged] > 0).any()


def test_columns_that_are_not_used_stay_zero_and_do_not_matter():
    problem = ufm.Problem(*PROBLEM)
    start = ufm.init(jax.random.key(0), problem)
    solved = jax.jit(jax.vmap(lambda columns: ufm.solve(start, problem, columns=columns)))
    found = solved(jnp.arange(4))
    assert found.converged.all()
    for columns in range(4):
        np.testing.assert_array_equal(found.params.W[columns, :, columns:], 0)
    narrow = ufm.Params(start.W[:, :2], start.H[:, :2], start.b)
    alone = ufm.solve(narrow, ufm.Problem(4, 2, *PROBLEM[2:]))
    np.testing.assert_allclose(found.params.W[2, :, :2], alone.params.W, atol=1e-8)


def test_unequal_classes_are_solved_to_a_certified_minimum():
    problem = ufm.Problem(4, 6, (5, 5, 1, 1), "cross_entropy", 5e-3, 2e-3, 1e-2)
    start = ufm.init(jax.random.key(0), problem, compact=True)
    found = ufm.solve(start, problem)
    certificate = ufm.certify(found.params, problem)
    whole = ufm.certify(ufm.expand(found.params, problem), problem)
    assert certificate.label == whole.label == "global_minimizer"
    for name in ("objective", "lower_bound", "spectral_ratio"):
        np.testing.assert_allclose(getattr(certificate, name), getattr(whole, name), rtol=1e-9)


def test_compact_certificates_are_those_of_the_whole_at_saddles_and_off_them():
    problem = ufm.Problem(4, 6, 3, "cross_entropy", 5e-3, 2e-3, 1e-2)
    saddle = ufm.critical_point(jax.random.key(1), problem, 2, compact=True).params
    random = ufm.init(jax.random.key(2), problem, compact=True)
    for compact in (saddle, random):
        one = ufm.certify(compact, problem)
        two = ufm.certify(ufm.expand(compact, problem), problem)
        for name in ("objective", "gradient_norm", "gap", "spectral_ratio", "escape_value"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(two, name), rtol=1e-9, atol=1e-10, err_msg=name
            )
        assert one.verdict == two.verdict


def test_float32_gets_near_and_float64_polishes():
    problem = ufm.Problem(*PROBLEM)
    with jax.enable_x64(False):
        start = ufm.init(jax.random.key(0), problem, compact=True)
        found = ufm.solve(start, problem, gradient_tol=1e-4)
    assert found.params.W.dtype == jnp.float32
    assert found.converged
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), found.params)
    polished = ufm.solve(wide, problem)
    assert polished.converged
    assert polished.steps <= 15


def test_a_solver_that_runs_out_of_steps_says_so():
    problem = ufm.Problem(*PROBLEM)
    stopped = ufm.solve(ufm.init(jax.random.key(0), problem), problem, max_steps=3)
    assert not stopped.converged
    assert stopped.steps == 3
    assert stopped.gradient_norm > 1e-9 * problem.force


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("setting", "value"),
    [("aim", "minimum"), ("columns", 7), ("columns", 1.5), ("gradient_tol", 0.0), ("max_steps", 0)],
)
def test_bad_settings_are_refused_by_name(setting, value):
    problem = ufm.Problem(*PROBLEM)
    with pytest.raises(InputError, match=f"`{setting}`"):
        ufm.solve(ufm.init(jax.random.key(0), problem), problem, **{setting: value})
