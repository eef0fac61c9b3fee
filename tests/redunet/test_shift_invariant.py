import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from ncjax.checks import InputError
from ncjax.redunet import ShiftInvariantReduNet, random_filters

SMALL = {"num_layers": 3, "channels": 8, "filter_size": 3}


@pytest.fixture(scope="module")
def digits() -> tuple:
    """Training images and labels, and other images."""
    X, y = load_digits(return_X_y=True)
    images = X.reshape(-1, 8, 8) / 16
    return images[:60], y[:60], images[60:80]


def _check_shifts(net: ShiftInvariantReduNet, images: np.ndarray, tolerance: float) -> None:
    moved = np.roll(images, (2, 3), (1, 2))
    expected = np.roll(net.transform(images), (2, 3), (1, 2))
    np.testing.assert_allclose(net.transform(moved), expected, atol=tolerance)
    np.testing.assert_array_equal(net.predict(moved), net.predict(images))


def test_shifted_images_have_shifted_features_and_the_same_class(digits):
    X, y, others = digits
    _check_shifts(ShiftInvariantReduNet(**SMALL).fit(X, y), others, 1e-5)


def test_in_float64_the_filters_are_the_same_and_shifts_exact_to_rounding(digits):
    X, y, others = digits
    filters = random_filters(0, 8, 3, 1, 2)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(random_filters(0, 8, 3, 1, 2), filters)
        net = ShiftInvariantReduNet(**SMALL, eps=0.1).fit(X, y)
        assert net.transform(others).dtype == np.float64
        _check_shifts(net, others, 1e-12)


def test_signals(digits):
    X, y, _ = digits
    net = ShiftInvariantReduNet(2, positions=1, channels=4, filter_size=5)
    signals = X.reshape(len(X), 64)
    features = net.fit(signals, y).transform(signals)
    assert features.shape == (60, 64, 4)
    moved = net.transform(np.roll(signals, 9, 1))
    np.testing.assert_allclose(moved, np.roll(features, 9, 1), atol=1e-5)


def test_what_is_refused(digits):
    X, y, _ = digits
    with pytest.raises(InputError, match=r"`filter_size`: got 9.*at most 8"):
        ShiftInvariantReduNet(filter_size=9).fit(X, y)
    with pytest.raises(InputError, match=r"`X`: got shape.*\[N, H, W\]"):
        ShiftInvariantReduNet().fit(X.reshape(60, 64), y)
    with pytest.raises(InputError, match="`positions`"):
        ShiftInvariantReduNet(positions=3).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        ShiftInvariantReduNet().fit(np.where(X == 1, np.nan, X), y)
    net = ShiftInvariantReduNet(1, channels=2, filter_size=2).fit(X, y)
    with pytest.raises(InputError, match=r"`X`: got samples of shape \[6, 6, 1\]"):
        net.predict(np.ones((2, 6, 6)))
