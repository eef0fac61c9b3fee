import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.redunet import from_spectra, rate_reduction
from ncjax.redunet.operators import from_covariances, from_samples
from ncjax.redunet.rates import covariance
from ncjax.redunet.spectra import complex_form, real_form
from tests.redunet.reference import ALL_SHAPES, case

pytestmark = pytest.mark.usefixtures("x64")
EPS = 0.4


def log_determinants(features, labels):
    """The rate reduction of all shifts, for automatic differentiation: nothing of the library."""
    positions = features.shape[1:-1]
    axes = tuple(range(1, features.ndim - 1))
    shifts = list(itertools.product(*map(range, positions)))
    rows = jnp.stack([jnp.roll(features, shift, axes) for shift in shifts])
    rows = rows.reshape(len(shifts), len(labels), -1).swapaxes(0, 1)

    def rate(z):
        z = z.reshape(-1, z.shape[-1])
        moment = z.T @ z / (len(z) * EPS**2 / z.shape[1])
        return jnp.linalg.slogdet(jnp.eye(z.shape[1]) + moment)[1] / 2

    shares = np.bincount(labels) / len(labels)
    of_classes = [share * rate(rows[labels == k]) for k, share in enumerate(shares)]
    return (rate(rows) - sum(of_classes)) / len(shifts)


@ALL_SHAPES
def test_the_operators_are_the_gradient_of_the_rate_reduction(shape):
    spectra, labels, places = case(shape)
    operators = from_samples(spectra, places, EPS).operators
    values = real_form(spectra.values)
    compressed, squares = operators.compress(values)
    own = compressed[labels, :, np.arange(len(labels))].swapaxes(0, 1)
    moved = operators.expand(values) - operators.shares[labels][None, :, None] * own
    slope = from_spectra(spectra.replace(complex_form(moved, spectra.values.dtype)))
    np.testing.assert_allclose(squares, np.square(compressed).sum(-1), rtol=1e-12)
    features = from_spectra(spectra)
    expected = jax.jit(jax.grad(lambda z: log_determinants(z, labels)))(features)
    np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-12)
    graded = jax.jit(jax.grad(lambda z: rate_reduction(z, labels, EPS)))(features)
    np.testing.assert_allclose(graded, expected, rtol=1e-10, atol=1e-12)


def test_factors_covariances_and_samples_give_the_same_operators():
    spectra, labels, places = case((7, 9))
    factored = from_samples(spectra, places, EPS)
    groups = jnp.stack([covariance(spectra.values[:, labels == k]) for k in range(3)])
    counts = jnp.asarray(np.bincount(labels), spectra.weights.dtype)
    dense = from_covariances(groups, counts, spectra.weights, EPS)
    assert factored.operators.factored
    assert not dense.operators.factored
    np.testing.assert_allclose(factored.operators.expansion, dense.operators.expansion, rtol=1e-12)
    values = real_form(spectra.values)
    for one, other in zip(
        factored.operators.compress(values), dense.operators.compress(values), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
    for built in (factored, dense):
        expected = rate_reduction(spectra.values[0], labels, EPS)
        np.testing.assert_allclose(built.rate - built.class_rate, expected, rtol=1e-12)
