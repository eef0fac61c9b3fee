import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.redunet import NearestSubspace


def planes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples on `count` random planes through the origin of eight dimensions, and their planes."""
    rng = np.random.default_rng(0)
    bases = rng.normal(size=(count, 2, 8))
    labels = np.repeat(np.arange(count), 20)
    return np.einsum("nk,nkd->nd", rng.normal(size=(len(labels), 2)), bases[labels]), labels


def test_samples_on_planes_are_assigned_to_their_own():
    X, y = planes(3)
    names = np.array(["a", "b", "c"])[y]
    found = NearestSubspace(2).fit(X[::2], names[::2])
    assert found.score(X[1::2], names[1::2]) == 1
    squares = np.square(X).sum(1)
    np.testing.assert_allclose(found.decision_function(X)[np.arange(len(y)), y], squares)


def test_of_two_classes_the_sign_decides():
    X, y = planes(2)
    found = NearestSubspace(2).fit(X, y)
    np.testing.assert_array_equal(found.decision_function(X) > 0, y == 1)


def test_a_subspace_without_dimension_is_refused():
    with pytest.raises(InputError, match="`dim`"):
        NearestSubspace(0).fit(*planes(2))
