import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.redunet.lifting import lift, random_filters

SIGNALS = np.random.default_rng(0).normal(size=(2, 9, 2)).astype("f4")
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 5, 1)).astype("f4")


@pytest.mark.parametrize(("inputs", "axes"), [(SIGNALS, (1,)), (IMAGES, (1, 2))])
def test_lifting_commutes_with_circular_shifts(inputs, axes):
    filters = random_filters(0, 4, 3, inputs.shape[-1], len(axes))
    shift = (2,) * len(axes)
    lifted = lift(inputs, filters)
    assert lifted.shape == (*inputs.shape[:-1], 4)
    moved = lift(np.roll(inputs, shift, axes), filters)
    np.testing.assert_allclose(moved, np.roll(lifted, shift, axes), atol=1e-6)


def test_lifting_is_the_positive_part_of_a_correlation():
    filters = np.asarray(random_filters(1, 3, 4, 2, 1))
    expected = np.zeros((2, 9, 3))
    for t in range(9):
        window = SIGNALS[:, (t + np.arange(4)) % 9]
        expected[:, t] = np.einsum("nkc,kco->no", window, filters)
    np.testing.assert_allclose(lift(SIGNALS, filters), np.maximum(expected, 0), atol=1e-5)


def test_filters_larger_than_the_signal_are_refused():
    with pytest.raises(InputError, match=r"`filters`.*Take smaller filters"):
        lift(SIGNALS, random_filters(0, 4, 10, 2, 1))
    with pytest.raises(InputError, match="channel"):
        lift(SIGNALS, random_filters(0, 4, 3, 1, 1))
    with pytest.raises(InputError, match="`channels`"):
        random_filters(0, 0, 3, 1, 1)
