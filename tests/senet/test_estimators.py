"""On points of four planes in six dimensions, which exact coefficients tell apart."""

import copy
import dataclasses

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from ncjax.checks import InputError
from ncjax.metrics import clustering_accuracy
from ncjax.senet import OMPClustering, SENet

SMALL = {"widths": (64,), "dim": 64, "steps": 100, "learning_rate": 0.02, "gamma": 50.0}
SMALL |= {"graph": "symmetric", "top": 20}


@pytest.fixture(scope="module")
def fitted(planes):
    return SENet(4, **SMALL).fit(planes[0][:160])


def test_planes_are_told_apart(planes, fitted):
    _, labels = planes
    assert clustering_accuracy(labels[:160], fitted.labels_) > 0.9
    assert fitted.coefficients_.shape == (160, 160)
    assert np.all(fitted.coefficients_.diagonal() == 0)
    assert np.diff(fitted.coefficients_.indptr).max() <= 20
    graph = fitted.affinity()
    assert abs(graph - graph.T).max() == 0


def test_new_points_are_written_in_their_own_plane(planes, fitted):
    points, labels = planes
    found = fitted.predict(points[160:])
    names = np.array([np.bincount(fitted.labels_[labels[:160] == k]).argmax() for k in range(4)])
    assert (found == names[labels[160:]]).mean() > 0.9
    coefficients = fitted.transform(points[160:])
    assert coefficients.shape == (40, 160)


def test_warm_starts_and_subsets(planes):
    points, _ = planes
    net = SENet(4, **SMALL | {"steps": 20, "warm_start": True, "train_size": 50}).fit(points)
    assert net.coefficients_.shape == (200, 200)
    first = net.training_
    again = net.fit(points).training_
    assert again.measured[0].excess == pytest.approx(first.measured[20].excess, rel=1e-4)
    with pytest.raises(InputError, match=r"`train_size`: got 300.*at most 200"):
        SENet(4, train_size=300).fit(points)


def test_a_fit_that_fails_changes_nothing(planes):
    points, _ = planes
    net = SENet(4, **SMALL | {"steps": 20}).fit(points[:100])
    before = net.predict(points)
    with pytest.raises(InputError, match="`gamma`"):
        net.set_params(gamma=-1.0).fit(points[::-1, :8])
    np.testing.assert_array_equal(net.predict(points), before)
    with pytest.raises(InputError, match="`start`"):
        net.set_params(gamma=50.0, warm_start=True, widths=(8,)).fit(points)
    np.testing.assert_array_equal(net.predict(points), before)


def test_new_points_without_coefficients_go_where_their_products_are(planes, fitted):
    points, _ = planes
    far = copy.copy(fitted)
    params = fitted.training_.params | {"offset": np.array(1e3, "f4")}
    far.training_ = dataclasses.replace(fitted.training_, params=params)
    assert far.transform(points[160:]).nnz == 0
    assert (far.predict(points[160:]) == fitted.predict(points[160:])).mean() > 0.8


def test_duplicates_do_no_harm(planes):
    points, _ = planes
    twice = np.concatenate([points[:80], points[:80]])
    for net in (SENet(4, **SMALL), OMPClustering(4, n_nonzero=2)):
        found = net.fit_predict(twice)
        assert len(np.unique(found)) == 4
        assert (found[:80] == found[80:]).mean() > 0.9


def test_what_is_refused(planes):
    points, _ = planes
    with pytest.raises(InputError, match=r"`X`: got 3 sample.*at least 4"):
        SENet(4).fit(points[:3])
    with pytest.raises(InputError, match=r"`X`: got 1 sample.*the first is 2.*Leave them out"):
        SENet(4).fit(np.concatenate([points[:2], 0 * points[:1], points]))
    with pytest.raises(ValueError, match="NaN"):
        SENet(4).fit(np.where(points > 1, np.nan, points))
    with pytest.raises(InputError, match=r"`top`: got 500.*at most 199"):
        SENet(4, top=500).fit(points)
    with pytest.raises(InputError, match=r"`graph`.*symmetric"):
        SENet(4, graph="symetric").fit(points)
    with pytest.raises(InputError, match=r"`widths`: got 8"):
        SENet(4, widths=8).fit(points)
    with pytest.raises(InputError, match=r"`random_state`: got None"):
        SENet(4, random_state=None).fit(points)
    with pytest.raises(InputError, match=r"`lam`"):
        SENet(4, lam=1.0).fit(points)
    with pytest.raises(NotFittedError):
        SENet(4).predict(points)


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_accepts_the_estimators(monkeypatch):
    monkeypatch.setattr("ncjax.senet.spectral.STARTS", 2)
    expected = {
        "check_estimators_dtypes": "one of its samples is zero, which has no direction",
        "check_clustering": "its blobs are not subspaces",
        "check_fit2d_1feature": "its points all have one direction, and are refused for that",
    }
    for net in (OMPClustering(2), SENet(2, widths=(4,), dim=4, steps=2, learning_rate=1e-6)):
        results = check_estimator(net, on_fail=None, expected_failed_checks=expected)
        failed = {
            row["check_name"]: row["exception"] for row in results if row["status"] == "failed"
        }
        assert not failed
