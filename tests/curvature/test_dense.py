import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


def quadratic(spectrum, seed=0):
    """A quadratic form with prescribed Hessian eigenvalues over a two-leaf pytree."""
    size = len(spectrum)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    A = jnp.asarray(Q @ np.diag(spectrum) @ Q.T)

    def form(tree):
        x = jnp.concatenate([tree["u"], tree["v"].ravel()])
        return 0.5 * x @ A @ x

    return form, {"u": jnp.zeros(2), "v": jnp.zeros((1, size - 2))}


@pytest.mark.parametrize(
    "spectrum", [[-2.0, -1e-3, 0, 0, 3], [1.0] * 6, [0.0] * 4, [-1.0, 1.0, 1.0, 1e5]]
)
def test_eigenpairs_are_those_prescribed_and_solve_the_eigen_equation(spectrum):
    f, point = quadratic(spectrum)
    pairs = curvature.dense_eigenpairs(f, point)
    size = max(map(abs, spectrum))
    np.testing.assert_allclose(pairs.eigenvalues, sorted(spectrum), atol=1e-13 * (1 + size))
    for i, value in enumerate(pairs.eigenvalues):
        vector = jax.tree.map(lambda leaf, i=i: leaf[i], pairs.eigenvectors)
        product = curvature.hvp(f, point, vector)
        rest = jax.tree.map(lambda p, v, value=value: p - value * v, product, vector)
        assert curvature.global_norm(rest) < 1e-12 * (1 + size)
        np.testing.assert_allclose(curvature.global_norm(vector), 1)


def test_vmapped_points_equal_a_loop():
    def f(x):
        return (x**4).sum() - x[0] * x[1]

    points = jax.random.normal(jax.random.key(0), (5, 3))
    batched = jax.vmap(lambda x: curvature.dense_eigenpairs(f, x).eigenvalues)(points)
    looped = [curvature.dense_eigenpairs(f, x).eigenvalues for x in points]
    np.testing.assert_allclose(batched, jnp.stack(looped), rtol=1e-12, atol=1e-14)


def test_signs_are_counted_against_a_stated_tolerance():
    eigenvalues = jnp.array([-1.0, -1e-9, 0.0, 1e-9, 2.0, 3.0])
    loose = curvature.signs(eigenvalues, 1e-8)
    assert (loose.negative, loose.zero, loose.positive) == (1, 3, 2)
    tight = curvature.signs(eigenvalues)
    assert (tight.negative, tight.zero, tight.positive) == (2, 1, 3)
    assert 0 < tight.tolerance < 1e-12


def test_bad_input_to_signs_is_refused():
    with pytest.raises(InputError, match="`tolerance`"):
        curvature.signs(jnp.ones(2), -1.0)
    with pytest.raises(InputError, match="number of eigenvalues"):
        curvature.signs(jnp.ones(0))
