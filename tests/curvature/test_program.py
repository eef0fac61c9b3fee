import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError
from ncjax.curvature.program import locate


def square(x):
    return (x**2).sum()


def test_numbers_of_python_and_numpy_are_points_too():
    for point, size in [(1.0, 1), (np.ones((2, 3), np.float32), 6)]:
        located = locate(lambda x: jnp.sum(x**2), point)
        assert (located.size, located.dtype) == (size, jnp.float32)


@pytest.mark.parametrize(
    "noise",
    [
        lambda x: random.random() * x.sum(),
        lambda x: (x * jax.random.normal(jax.random.key(random.randrange(10**6)), x.shape)).sum(),
    ],
)
def test_randomness_of_python_is_refused_even_where_it_does_not_touch_the_hessian(noise):
    with pytest.raises(InputError, match="changes from call to call"):
        locate(lambda x: square(x) + noise(x), jnp.ones(3))


def test_a_fixed_key_is_no_randomness():
    key = jax.random.key(0)
    locate(lambda x: square(x) + (x * jax.random.normal(key, x.shape)).sum(), jnp.ones(3))


def test_concrete_points_may_be_examined_inside_a_jit():
    operator = curvature.linear_map(lambda v: 3 * v)
    largest = jax.jit(lambda: curvature.extreme_eigenpairs(operator, jnp.ones(4), 1).eigenvalues)
    np.testing.assert_allclose(largest(), [3], rtol=1e-6)


def test_functions_may_close_over_traced_values():
    def largest(scale):
        return curvature.extreme_eigenpairs(lambda x: scale * square(x), jnp.ones(3), 1).eigenvalues

    np.testing.assert_allclose(jax.vmap(largest)(jnp.arange(1.0, 4)), [[2], [4], [6]], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(largest)(2.0), [4], rtol=1e-6)
