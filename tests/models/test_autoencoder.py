import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.models import Autoencoder

x = np.random.default_rng(0).uniform(size=(5, 10, 8)).astype(np.float32)
labels = np.arange(5) % 3
noise = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def built(inputs=(x, labels, noise), **settings):
    model = Autoencoder(3, (10, 8, 1), dim=4, width=2, **settings)
    return model, model.init(jax.random.key(0), inputs, train=False)


@pytest.mark.parametrize("variational", [True, False])
def test_outputs_are_a_reconstruction_and_a_divergence(variational):
    model, variables = built(variational=variational)
    outputs, mean = model.apply(variables, (x, labels, noise))
    assert outputs.shape == (5, 10 * 8 + 1)
    np.testing.assert_array_equal(mean, model.apply(variables, x, method="encode"))
    z = mean
    if variational:
        _, log_variance = model.apply(variables, x, None, False, method="_encoded")
        z = mean + jnp.exp(log_variance / 2) * noise
        q, p = (np.asarray(log_variance, np.float64), np.asarray(mean, np.float64))
        expected = (np.exp(q) + p**2 - 1 - q).sum(1) / 2
        np.testing.assert_allclose(outputs[:, -1], expected, rtol=1e-4)
    else:
        np.testing.assert_array_equal(outputs[:, -1], np.zeros(5))
    images = model.apply(variables, z, method="decode")
    np.testing.assert_allclose(outputs[:, :-1], images.reshape(5, -1), atol=1e-5)
    assert images.shape == (5, 10, 8, 1)


def test_without_noise_the_mean_is_decoded():
    model, variables = built()
    silent = model.apply(variables, (x, labels, np.zeros_like(noise)))[0]
    np.testing.assert_array_equal(silent, model.apply(variables, x)[0])


def test_a_conditional_one_hears_the_class_on_both_sides():
    model, variables = built(conditional=True)
    others = (labels + 1) % 3
    for method, inputs in (("encode", x), ("decode", noise)):
        mine, other, none = (
            model.apply(variables, inputs, y, method=method) for y in (labels, others, None)
        )
        assert np.abs(mine - other).max() > 1e-4
        assert np.abs(mine - none).max() > 1e-4
    plain, variables = built()
    by_class = (plain.apply(variables, noise, y, method="decode") for y in (labels, others))
    np.testing.assert_array_equal(*by_class)
