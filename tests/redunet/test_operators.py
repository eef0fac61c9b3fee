import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.redunet import from_spectra, rate_reduction
from ncjax.redunet.operators import from_covariances, from_samples
from ncjax.redunet.rates import covariance
from tests.redunet.reference import ALL_SHAPES, case

pytestmark = pytest.mark.usefixtures("x64")
EPS = 0.4


@ALL_SHAPES
def test_the_operators_are_the_gradient_of_the_rate_reduction(shape):
    spectra, labels, places = case(shape)
    operators = from_samples(spectra, places, EPS)
    own = operators.compress(spectra.values)[labels, :, np.arange(len(labels))].swapaxes(0, 1)
    pulled = operators.shares[labels][None, :, None].astype(own.dtype) * own
    slope = from_spectra(spectra.replace(operators.expand(spectra.values) - pulled))
    features = from_spectra(spectra)
    expected = jax.jit(jax.grad(lambda z: rate_reduction(z, labels, EPS)))(features)
    np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-12)


def test_factors_covariances_and_samples_give_the_same_operators():
    spectra, labels, places = case((7, 9))
    factored = from_samples(spectra, places, EPS)
    groups = jnp.stack([covariance(spectra.values[:, labels == k]) for k in range(3)])
    counts = jnp.asarray(np.bincount(labels), spectra.weights.dtype)
    dense = from_covariances(groups, counts, EPS)
    assert factored.factored
    assert not dense.factored
    np.testing.assert_allclose(factored.expansion, dense.expansion, rtol=1e-12)
    for operators in (factored, dense):
        found = operators.compress(spectra.values)
        np.testing.assert_allclose(found, dense.compress(spectra.values), rtol=1e-11, atol=1e-12)
