import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.metrics import (
    clustering_accuracy,
    clustering_scores,
    connectivity,
    subspace_preserving_error,
)

LABELS = np.repeat([0, 1, 2], [4, 5, 6])


def test_names_of_clusters_do_not_matter():
    scores = clustering_scores(LABELS, np.array([7, 3, 5])[LABELS])
    assert scores.accuracy == 1.0
    np.testing.assert_allclose([scores.nmi, scores.ari], 1.0)


def test_clusters_are_matched_one_to_one():
    assert clustering_accuracy(LABELS, np.zeros(15, int)) == 6 / 15
    assert clustering_accuracy(LABELS, np.arange(15)) == 3 / 15
    split = np.array([0, 0, 1, 1, 2, 2, 2, 2, 0, 3, 3, 3, 3, 3, 3])
    assert clustering_accuracy(LABELS, split) == (2 + 4 + 6) / 15


def test_the_share_of_coefficients_on_other_classes():
    affinity = np.zeros((15, 15))
    affinity[0, [1, 4]] = 3, -1  # a quarter to class 1
    affinity[5, 6] = 2
    np.testing.assert_allclose(subspace_preserving_error(affinity, LABELS), (0.25 + 0) / 2)


def test_connectivity_is_the_least_algebraic_one():
    own = (LABELS[:, None] == LABELS[None, :]) - np.eye(15)
    # The normalised Laplacian of a complete graph of n points has n/(n - 1) as all but one value.
    np.testing.assert_allclose(connectivity(own, LABELS), 6 / 5)
    own[0, :] = own[:, 0] = 0
    assert connectivity(own, LABELS) == 0


def test_large_classes_are_measured_as_small_ones(monkeypatch):
    from ncjax.metrics import clustering

    affinity = np.abs(np.random.default_rng(0).normal(size=(15, 15)))
    expected = connectivity(affinity, LABELS)
    monkeypatch.setattr(clustering, "_DENSE", 0)
    np.testing.assert_allclose(connectivity(affinity, LABELS), expected, rtol=1e-8)


def test_what_is_refused():
    with pytest.raises(InputError, match="`labels`"):
        clustering_accuracy([], [])
    with pytest.raises(InputError, match="`clusters`"):
        clustering_accuracy([0, 1], [0, 1, 1])
    with pytest.raises(InputError, match="`affinity`"):
        subspace_preserving_error(np.zeros((2, 3)), [0, 1])
    with pytest.raises(InputError, match="`affinity`: got no entry"):
        subspace_preserving_error(np.zeros((2, 2)), [0, 1])
    for function in (subspace_preserving_error, connectivity):
        with pytest.raises(InputError, match="`affinity`.*NaN"):
            function(np.array([[0, np.nan], [1, 0]]), [0, 0])
    with pytest.raises(InputError, match="`labels`: got no point"):
        connectivity(np.zeros((0, 0)), [])
