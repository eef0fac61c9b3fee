import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ncjax.checks import InputError
from ncjax.senet import ScatteringFeatures, scattering_features
from ncjax.senet import features as module

IMAGES = load_digits().images[:130].astype("f4")


def test_features_are_kept_and_found_again(tmp_path, monkeypatch):
    found = scattering_features(IMAGES, 20, cache=tmp_path)
    assert found.shape == (130, 20)
    assert found.dtype == np.float32
    monkeypatch.setattr(module, "_scattered", None)
    np.testing.assert_array_equal(scattering_features(IMAGES, 20, cache=tmp_path), found)
    with pytest.raises(TypeError):  # of other images they are not
        scattering_features(IMAGES[:50], 20, cache=tmp_path)


def test_they_are_those_of_the_numpy_frontend():
    from kymatio.scattering2d.frontend.numpy_frontend import ScatteringNumPy2D

    images = np.random.default_rng(0).normal(size=(3, 32, 32)).astype("f4")
    expected = ScatteringNumPy2D(J=3, shape=(32, 32))(images)
    assert expected.shape == (3, 217, 4, 4)
    found = module._scattered(images, False)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_later_images_have_features_in_the_same_directions():
    made = ScatteringFeatures(20)
    found = made.fit_transform(IMAGES)
    np.testing.assert_allclose(made.transform(IMAGES[:30]), found[:30], atol=1e-4)
    flat = module._scattered(IMAGES, False)
    flat /= np.abs(flat).max((0, 2, 3), keepdims=True)
    lengths = np.linalg.svd(flat.reshape(130, -1), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[:5], lengths[:5], rtol=1e-3)


def test_what_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"`dim`: got 200.*at most 130"):
        scattering_features(IMAGES, 200)
    monkeypatch.setattr(module, "COEFFICIENTS", 100)
    with pytest.raises(InputError, match=r"`dim`: got 110.*at most 100"):
        scattering_features(IMAGES, 110)
    with pytest.raises(InputError, match=r"`images`.*NaN"):
        scattering_features(np.full((2, 8, 8), np.nan), 1)
    monkeypatch.setitem(sys.modules, "kymatio.scattering2d.frontend.jax_frontend", None)
    with pytest.raises(InputError, match=r"ncjax\[senet\]"):
        scattering_features(IMAGES, 20)
