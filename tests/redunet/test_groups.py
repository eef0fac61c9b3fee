import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.redunet import to_spectra
from ncjax.redunet.groups import counts_of, places_by, places_of, rows_of

LABELS = np.array([2, 0, 2, 2, 0])
PLACES = [[1, 4, 5], [5, 5, 5], [0, 2, 3]]
SPECTRA = to_spectra(np.arange(1.0, 11.0, dtype="f4").reshape(5, 2))


def test_rows_of_each_class_known_or_traced():
    assert places_of(LABELS, 3).tolist() == PLACES
    assert np.asarray(places_by(LABELS, 3, None, 5)).tolist() == PLACES
    traced = jax.jit(lambda y: places_by(y, 3, 3, 5))(LABELS)
    assert traced.tolist() == PLACES
    np.testing.assert_array_equal(counts_of(SPECTRA, traced), [2, 0, 3])


def test_samples_of_a_class_are_filled_up_with_zeros():
    found = rows_of(SPECTRA, jnp.asarray(PLACES[0]))
    np.testing.assert_array_equal(found[0], [[3, 4], [9, 10], [0, 0]])


def test_more_samples_than_there_is_room_for_are_no_numbers():
    traced = jax.jit(lambda y: places_by(y, 3, 2, 5))(LABELS)
    assert np.isnan(rows_of(SPECTRA, traced[0])).all()


def test_what_is_refused():
    with pytest.raises(InputError, match="`labels`"):
        places_by(LABELS, 2, None, 5)
    with pytest.raises(InputError, match=r"`labels`: got shape \(5,\)"):
        places_by(LABELS, 3, None, 6)
    with pytest.raises(InputError, match=r"`num_classes`.*traced"):
        jax.jit(lambda y: places_by(y, None, None, 5))(LABELS)
