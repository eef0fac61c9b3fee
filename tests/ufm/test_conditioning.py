import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from tests.ufm.conftest import KINDS, dense_spectrum


def test_zeros_are_the_rotations_and_the_condition_number_is_differentiable():
    problem = ufm.Problem(5, 7, 3, "focal", 5e-3, 2e-3, 1e-2)
    found = ufm.conditioning(problem)
    assert found.flat == 4 * 3 // 2 + 4 * 3
    dense = dense_spectrum(problem)
    nonzero = dense[dense > 1e-9]
    np.testing.assert_allclose(found.condition_number, nonzero.max() / nonzero.min(), rtol=1e-9)

    def log_condition(lambda_w):
        changed = dataclasses.replace(problem, lambda_w=lambda_w)
        return jnp.log(ufm.conditioning(changed).condition_number)

    slope = jax.jit(jax.grad(log_condition))(5e-3)
    difference = (log_condition(5e-3 + 1e-7) - log_condition(5e-3 - 1e-7)) / 2e-7
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_escape_rate_is_that_of_the_origin(kind):
    loss, hyperparameters, lambda_b = KINDS[kind]
    problem = ufm.Problem(4, 5, 3, loss, 5e-3, 2e-3, lambda_b, hyperparameters)
    origin = ufm.critical_point(jax.random.key(0), problem, 0, compact=True).params
    smallest = ufm.certify(origin, problem).escape_value
    assert ufm.count_below(origin, problem, 1.001 * smallest) == 0
    np.testing.assert_allclose(ufm.conditioning(problem).escape_rate, -smallest, rtol=1e-9)
