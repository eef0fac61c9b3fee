"""Operators against closed forms, dense matrices and one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature, losses
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


def test_least_squares_has_the_hessian_of_its_inputs():
    x = jax.random.normal(jax.random.key(0), (20, 6))
    y = jax.random.normal(jax.random.key(1), (20,))
    f = curvature.data_hessian(lambda w, x, y: 0.5 * (x @ w - y) ** 2, (x, y), batch_size=6)
    np.testing.assert_allclose(
        curvature.hessian_matrix(f, jnp.zeros(6)), x.T @ x / 20, rtol=1e-12, atol=1e-14
    )


def test_logistic_regression_has_its_closed_form():
    x = jax.random.normal(jax.random.key(0), (20, 6))
    y = jnp.arange(20) % 2
    w = jax.random.normal(jax.random.key(1), (6,))
    p = jax.nn.sigmoid(x @ w)

    def loss(w, x, y):
        return jax.nn.softplus((1 - 2 * y) * (x @ w))

    f = curvature.data_hessian(loss, (x, y.astype(x.dtype)), weight_decay=0.3)
    expected = (x.T * (p * (1 - p))[None]) @ x / 20 + 0.3 * jnp.eye(6)
    pairs = curvature.extreme_eigenpairs(f, w, 6, backend="lanczos")
    np.testing.assert_allclose(pairs.eigenvalues, jnp.linalg.eigvalsh(expected), rtol=1e-10)


def test_softmax_regression_is_the_kronecker_sum_of_its_closed_form_and_its_own_gauss_newton():
    x = jax.random.normal(jax.random.key(0), (15, 3))
    y = jnp.arange(15) % 4
    W = jax.random.normal(jax.random.key(1), (4, 3))
    p = jax.nn.softmax(x @ W.T)
    D = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
    expected = jnp.einsum("nij,nk,nl->ikjl", D, x, x).reshape(12, 12) / 15

    def outputs(W, x):
        return x @ W.T

    def loss(W, x, y):
        return losses.cross_entropy(outputs(W, x), y)

    hessian = curvature.hessian_matrix(curvature.data_hessian(loss, (x, y)), W)
    gauss_newton = curvature.data_gauss_newton(outputs, losses.cross_entropy, (x, y), batch_size=4)
    np.testing.assert_allclose(hessian, expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(
        curvature.hessian_matrix(gauss_newton, W), expected, rtol=1e-10, atol=1e-14
    )


def matrices_of(classifier, **settings):
    for operator in (
        curvature.data_hessian(classifier.losses, classifier.data, weight_decay=0.1, **settings),
        curvature.data_gauss_newton(
            classifier.outputs,
            losses.cross_entropy,
            classifier.data,
            weight_decay=0.1,
            **settings,
        ),
    ):
        yield curvature.hessian_matrix(operator, classifier.params)


def test_batches_even_an_uneven_last_one_equal_the_whole(classifier):
    flat, unravel = jax.flatten_util.ravel_pytree(classifier.params)
    expected = jax.jit(jax.hessian(lambda v: classifier.mean_loss(unravel(v))))(flat)
    for settings in ({}, {"batch_size": 4}, {"batch_size": 5, "backend": "shard_map"}):
        hessian, gauss_newton = matrices_of(classifier, **settings)
        np.testing.assert_allclose(hessian, expected, rtol=1e-9, atol=1e-12)
        assert float(jnp.linalg.eigvalsh(gauss_newton)[0]) > 0.1 - 1e-12
    assert float(jnp.abs(hessian - gauss_newton).max()) > 1e-3


def test_value_and_gradient_of_a_data_set_are_those_of_the_mean(classifier):
    operator = curvature.data_hessian(
        classifier.losses, classifier.data, weight_decay=0.1, batch_size=4
    )
    found = curvature.examine(operator, classifier.params)
    value, gradient = jax.jit(jax.value_and_grad(classifier.mean_loss))(classifier.params)
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    np.testing.assert_allclose(found.gradient_norm, curvature.global_norm(gradient), rtol=1e-12)


def test_gauss_newton_product_is_that_of_the_dense_factors(classifier):
    flat, unravel = jax.flatten_util.ravel_pytree(classifier.params)
    vector = jnp.cos(jnp.arange(35.0))

    def outputs(params):
        return classifier.outputs(params, classifier.x)

    def loss(z):
        return losses.focal(z, classifier.y).sum()

    J = jax.jit(jax.jacobian(lambda v: outputs(unravel(v)).ravel()))(flat)
    z = outputs(classifier.params).ravel()
    D = jax.jit(jax.hessian(lambda z: loss(z.reshape(13, 3))))(z)
    product = curvature.gauss_newton_product(outputs, loss, classifier.params, unravel(vector))
    operator = curvature.gauss_newton(outputs, loss)
    np.testing.assert_allclose(
        jax.flatten_util.ravel_pytree(product)[0], J.T @ (D @ (J @ vector)), rtol=1e-9
    )
    np.testing.assert_allclose(
        curvature.hessian_matrix(operator, classifier.params), J.T @ D @ J, rtol=1e-8, atol=1e-11
    )


SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from ncjax import curvature
from tests.curvature.conftest import Classifier
with jax.enable_x64(True):
    c = Classifier()
    settings = {"weight_decay": 0.1, "batch_size": 2}
    f = {name: curvature.data_hessian(c.losses, c.data, backend=name, **settings)
         for name in (None, "shard_map", "pmap")}
    one, *others = [curvature.extreme_eigenpairs(g, c.params, 4, "BE", num_steps=12,
                                                 backend="lanczos") for g in f.values()]
    assert len(jax.devices()) == 4
    for other in others:
        np.testing.assert_allclose(other.eigenvalues, one.eigenvalues, rtol=1e-9)
        np.testing.assert_allclose(other.residuals, one.residuals, rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(other.gradient_norm, one.gradient_norm, rtol=1e-12)
    point = jax.tree.map(jnp.zeros_like, c.params)
    ways = [curvature.escape(f[name], point, num_steps=20, backend="lanczos")
            for name in (None, "shard_map")]
    assert all(way.converged and len(way.values) == 2 for way in ways), ways
    np.testing.assert_allclose(ways[0].values, ways[1].values, rtol=1e-6)
print("same")
"""


def test_four_devices_equal_one(on_devices):
    assert "same" in on_devices(SCRIPT)


@pytest.mark.usefixtures("no_type_checks")
def test_bad_data_are_refused(classifier):
    x, y = classifier.data
    averaged = curvature.data_hessian(lambda p, x, y: classifier.losses(p, x, y).mean(), (x, y))
    with pytest.raises(InputError, match="`loss`: got a result of shape \\(\\)"):
        curvature.hessian_matrix(averaged, classifier.params)
    with pytest.raises(InputError, match="`data`: got leading axes"):
        curvature.data_hessian(classifier.losses, (x, y[:5]))
    with pytest.raises(InputError, match="`batch_size`: got 0"):
        curvature.data_hessian(classifier.losses, (x, y), batch_size=0)
    with pytest.raises(InputError, match="`backend`: got 'tpu'"):
        curvature.data_hessian(classifier.losses, (x, y), backend="tpu")
    with pytest.raises(InputError, match="`weight_decay`"):
        curvature.data_hessian(classifier.losses, (x, y), weight_decay=-1.0)
    with pytest.raises(InputError, match="`vector`"):
        curvature.gauss_newton_product(lambda p: p, lambda z: z.sum(), jnp.ones(3), jnp.ones(2))
