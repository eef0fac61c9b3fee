import jax
import numpy as np
import pytest

from ncjax import frames
from ncjax.checks import InputError
from ncjax.metrics import class_moments, sample_geometry

K, D = 4, 6


def case(seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), 10)
    features = 2 + rng.normal(size=(K, D))[labels] + 0.8 * rng.normal(size=(len(labels), D))
    return features, labels, rng.normal(size=(K, D)), rng.normal(size=K)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("center_W", [True, False])
def test_geometry_equals_a_reading_sample_by_sample(center_W):
    features, labels, W, b = case()
    moments = class_moments(features, labels, K)
    found = sample_geometry(features, labels, moments, W, b, center_W=center_W)
    means, h_G = np.asarray(moments.means), features.mean(0)
    V = W - W.mean(0) if center_W else W
    for i, (h, y) in enumerate(zip(features, labels, strict=True)):
        assert found.predicted[i] == np.argmax(W @ h + b)
        assert found.nearest_class[i] == np.argmin(np.linalg.norm(h - means, axis=1))
        cosines = V @ (h - h_G) / np.linalg.norm(V, axis=1) / np.linalg.norm(h - h_G)
        margin = cosines[y] - np.delete(cosines, y).max()
        np.testing.assert_allclose(found.cosine_margin[i], margin, rtol=1e-9)
    agreement = np.mean(np.asarray(found.predicted) == np.asarray(found.nearest_class))
    assert found.nc4_agreement == pytest.approx(agreement)
    assert 0 < agreement < 1


def test_the_bias_counts_in_the_agreement():
    features, labels, _, _ = case()
    moments = class_moments(features, labels, K)
    W = np.asarray(moments.means)
    nearest = sample_geometry(features, labels, moments, W, -0.5 * np.square(W).sum(1))
    assert nearest.nc4_agreement == 1
    assert sample_geometry(features, labels, moments, W).nc4_agreement < 1


def test_at_collapse_the_margin_is_that_of_the_simplex_etf():
    M = np.asarray(frames.simplex_etf(K, D, jax.random.key(0)))
    labels = np.repeat(np.arange(K), 3)
    found = sample_geometry(M[labels], labels, class_moments(M[labels], labels, K), 2 * M)
    np.testing.assert_allclose(found.cosine_margin, K / (K - 1), rtol=1e-5)
    assert found.nc4_agreement == 1


@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name():
    features, labels, W, b = case()
    moments = class_moments(features, labels, K)
    with pytest.raises(InputError, match="`W`"):
        sample_geometry(features, labels, moments, W[:, 1:], b)
    with pytest.raises(InputError, match="`features`.*shape"):
        sample_geometry(features[:, 1:], labels, moments, W, b)
    with pytest.raises(InputError, match="`W`.*NaN"):
        sample_geometry(features, labels, moments, W * np.nan, b)
    with pytest.raises(InputError, match="`b`.*NaN"):
        sample_geometry(features, labels, moments, W, b * np.nan)
    with pytest.raises(InputError, match="`labels`"):
        sample_geometry(features, labels + 1, moments, W, b)


def test_a_sample_without_direction_has_margin_zero():
    features = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0, 0]], np.float32)
    labels = np.array([0, 0, 1, 1, 1])
    found = sample_geometry(features, labels, class_moments(features, labels, 2), np.eye(2))
    assert found.cosine_margin[4] == 0
