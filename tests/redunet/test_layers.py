import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.redunet import from_spectra, rate_reduction
from ncjax.redunet.layers import LayerConfig, construct, layer, transform
from ncjax.redunet.operators import from_samples
from tests.redunet.reference import ALL_SHAPES, case, circulant, dense_layer, official_layer

pytestmark = pytest.mark.usefixtures("x64")
CONFIG = LayerConfig(eps=0.4, step=0.3, sharpness=5.0)


@ALL_SHAPES
def test_a_layer_is_the_dense_one_over_all_shifts(shape):
    spectra, labels, places = case(shape)
    features = np.asarray(from_spectra(spectra))
    found, _ = layer(from_samples(spectra, places, CONFIG.eps).operators, spectra, CONFIG)
    rows, owners = circulant(features, labels)
    flat = features.reshape(len(features), -1)
    expected = dense_layer(flat, rows, owners, dataclasses.asdict(CONFIG))
    found = np.asarray(from_spectra(found)).reshape(flat.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 4, 3, 2)])
def test_with_a_unitary_transform_it_is_the_official_one(shape):
    spectra, labels, places = case(shape, "ortho")
    features = np.asarray(from_spectra(spectra))
    found, _ = layer(from_samples(spectra, places, CONFIG.eps).operators, spectra, CONFIG)
    expected = official_layer(features, labels, dataclasses.asdict(CONFIG))
    np.testing.assert_allclose(from_spectra(found), expected, rtol=1e-12, atol=1e-12)
    exact, labels, places = case(shape)
    other, _ = layer(from_samples(exact, places, CONFIG.eps).operators, exact, CONFIG)
    assert np.abs(np.asarray(from_spectra(other)) - expected).max() > 1e-2


@ALL_SHAPES
def test_construction_ascends_and_inference_repeats_it(shape):
    spectra, labels, places = case(shape)
    config = dataclasses.replace(CONFIG, step=0.1, sharpness=500.0)
    after, operators, monitor = construct(spectra, places, jnp.asarray(labels), config, 6)
    reduction = monitor.reduction
    assert np.all(np.diff(reduction) > 0)
    assert monitor.falls.size == 0
    expected = rate_reduction(from_spectra(spectra), labels, config.eps)
    np.testing.assert_allclose(reduction[0], expected, rtol=1e-12)
    again, _, assigned = transform(operators, spectra, config)
    np.testing.assert_allclose(again.values, after.values, rtol=1e-12, atol=1e-14)
    assert assigned.shape == (6, len(labels))
    right = np.asarray(assigned) == labels
    np.testing.assert_allclose(right.mean(1), monitor.agreement)
