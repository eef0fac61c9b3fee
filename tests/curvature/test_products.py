import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


def f(p):
    return (jnp.sin(p["a"]).sum() * p["b"] ** 2).sum() + (p["a"][0] * p["b"]).sum()


POINT = {"a": jnp.array([0.3, -1.0]), "b": jnp.array([[0.5, 2.0]])}


def test_hvp_of_a_pytree_is_the_dense_hessian_times_the_vector():
    with jax.enable_x64(True):
        point = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), POINT)
        vector = jax.tree.map(lambda x: jnp.cos(3 * x), point)
        flat, unravel = jax.flatten_util.ravel_pytree(point)
        H = jax.hessian(lambda x: f(unravel(x)))(flat)
        product = curvature.hvp(f, point, vector)
        expected = H @ jax.flatten_util.ravel_pytree(vector)[0]
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(product)[0], expected, rtol=1e-12)
        quadratic = curvature.inner(vector, product)
        np.testing.assert_allclose(
            quadratic, jax.flatten_util.ravel_pytree(vector)[0] @ expected, rtol=1e-12
        )


def test_norm_is_that_of_one_long_vector():
    tree = {"a": jnp.array([3.0]), "b": jnp.array([[4.0], [12.0]])}
    assert curvature.global_norm(tree) == 13.0


def test_a_vector_of_another_shape_is_refused():
    with pytest.raises(InputError, match="`vector`"):
        curvature.hvp(f, POINT, {"a": jnp.ones(3), "b": jnp.ones((1, 2))})
