import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import check_estimator

from ncjax.checks import InputError
from ncjax.redunet import NearestSubspace, ReduNet, ShiftInvariantReduNet


@pytest.fixture(scope="module")
def digits() -> tuple:
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, train_size=500, test_size=400, random_state=0, stratify=y)


@pytest.fixture(scope="module")
def built(digits) -> ReduNet:
    X, _, y, _ = digits
    return ReduNet(20).fit(X, y)


def test_digits_are_told_apart_at_least_as_well_as_by_raw_subspaces(digits, built):
    X, test, y, labels = digits
    raw = NearestSubspace().fit(X, y).score(test, labels)
    assert raw > 0.9
    assert built.score(test, labels) > raw - 0.02
    after = NearestSubspace().fit(built.transform(X), y)
    assert after.score(built.transform(test), labels) > raw - 0.02


def test_rate_reduction_ascends_layer_by_layer(built):
    reduction = built.monitor_.reduction
    assert reduction.shape == (20,)
    assert np.all(np.diff(reduction) > 0)
    assert not built.monitor_.falls.size


def test_assignments_are_probabilities_whatever_the_batches(digits, built):
    test = digits[1]
    probabilities = built.predict_proba(test)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    other = pickle.loads(pickle.dumps(built)).set_params(batch_size=150)
    np.testing.assert_array_equal(other.predict(test), built.predict(test))
    np.testing.assert_array_equal(other.staged_predict(test)[-1], built.predict(test))


@pytest.mark.parametrize("classifier", ["nearest_subspace", "knn", "svm"])
def test_other_classifiers_see_the_features(digits, classifier):
    X, test, y, labels = digits
    assert ReduNet(3, classifier=classifier).fit(X, y).score(test, labels) > 0.88


def test_classes_in_any_order_end_in_the_joint_network(digits):
    X, test, y, _ = digits
    joint = ReduNet(5, construction="covariances").fit(X, y)
    portions = [[3], [1, 7], [0, 2, 9], [8, 6, 5, 4]]
    grown = ReduNet(5, construction="covariances")
    for classes in portions:
        rows = np.flatnonzero(np.isin(y, classes))
        for half in np.array_split(rows, 2):
            grown.partial_fit(X[half], y[half])
    assert grown.classes_.tolist() != joint.classes_.tolist()
    np.testing.assert_array_equal(grown.predict(test), joint.predict(test))
    kept = {name for name in vars(grown) if name.endswith("_")}
    assert kept == {"classes_", "open_", "kept_", "operators_", "monitor_", "n_features_in_"}
    assert vars(grown.kept_).keys() == {"sums", "counts"}


def test_a_fitted_network_takes_further_classes_and_survives_bad_samples(digits):
    X, test, y, _ = digits
    early = y < 6
    net = ReduNet(3, construction="covariances").fit(X[early], y[early])
    with pytest.raises(InputError, match="without a direction"):
        net.partial_fit(np.zeros((1, 64)), [99])
    net.partial_fit(X[~early], y[~early])
    joint = ReduNet(3, construction="covariances").fit(X, y)
    np.testing.assert_array_equal(net.classes_, joint.classes_)
    np.testing.assert_array_equal(net.predict(test), joint.predict(test))


def test_classes_announced_and_not_yet_seen_are_never_predicted(digits):
    X, test, y, _ = digits
    net = ReduNet(3, construction="covariances")
    early = y < 4
    net.partial_fit(X[early], y[early], classes=range(10))
    assert set(net.predict(test)) == set(range(4))
    with pytest.raises(InputError, match=r"`y`: got labels \[11\].*first call"):
        net.partial_fit(X, np.full(len(X), 11))


def test_shifted_images_have_shifted_features_and_the_same_class(digits):
    X, test, y, _ = digits
    net = ShiftInvariantReduNet(3, channels=8, filter_size=3)
    images, others = X.reshape(-1, 8, 8)[:60], test.reshape(-1, 8, 8)[:20]
    net.fit(images, y[:60])
    moved = np.roll(others, (2, 3), (1, 2))
    expected = np.roll(net.transform(others), (2, 3), (1, 2))
    np.testing.assert_allclose(net.transform(moved), expected, atol=1e-5)
    np.testing.assert_array_equal(net.predict(moved), net.predict(others))


@pytest.mark.parametrize("classifier", ["network", "knn"])
def test_a_network_from_batches_of_samples_is_the_same(digits, classifier):
    X, test, y, _ = digits
    settings = {"sharpness": 5.0, "classifier": classifier}  # soft, so that rounding decides little
    whole = ReduNet(3, **settings).fit(X, y)
    net = ReduNet(3, streamed=True, batch_size=150, **settings).fit(X, y)
    np.testing.assert_allclose(net.transform(test), whole.transform(test), atol=1e-4)
    assert (net.predict(test) == whole.predict(test)).mean() > 0.99
    np.testing.assert_allclose(net.monitor_.reduction, whole.monitor_.reduction, rtol=1e-4)


def test_a_plateau_ends_construction_and_the_classifier_sees_its_features(digits):
    X, test, y, labels = digits
    net = ReduNet(60, plateau=0.02, classifier="nearest_subspace").fit(X, y)
    count = len(net.monitor_.reduction)
    assert 1 < count < 60
    assert net.staged_predict(test).shape == (count, len(labels))
    assert net.score(test, labels) > 0.9


def test_what_is_refused(digits):
    X, _, y, _ = digits
    with pytest.raises(InputError, match=r"`y`: got one class.*two classes"):
        ReduNet().fit(X[:5], np.zeros(5))
    with pytest.raises(InputError, match=r"`X`: got 1 sample.*without a direction.*Leave them out"):
        ReduNet().fit(np.vstack([X[:20], 0 * X[:1]]), y[:21])
    with pytest.raises(InputError, match=r"`X`: got the same sample.*samples that differ"):
        ReduNet().fit(np.repeat(X[:1], 4, 0), y[:4])
    with pytest.raises(InputError, match="`eps`"):
        ReduNet(eps=0.0).fit(X, y)
    with pytest.raises(InputError, match=r"`classifier`.*No sample is kept"):
        ReduNet(construction="covariances", classifier="knn").fit(X, y)
    with pytest.raises(AttributeError, match="partial_fit"):
        ReduNet().partial_fit(X, y)
    with pytest.raises(NotFittedError):
        ReduNet().predict(X)
    with pytest.raises(ValueError, match="NaN"):
        ReduNet().fit(np.where(X == 1, np.nan, X), y)
    with pytest.raises(InputError, match=r"`filters`.*smaller filters"):
        ShiftInvariantReduNet(filter_size=9).fit(X.reshape(-1, 8, 8), y)
    with pytest.raises(InputError, match=r"`X`: got shape.*\[N, H, W\]"):
        ShiftInvariantReduNet().fit(X, y)
    shifting = ShiftInvariantReduNet(1, channels=2, filter_size=2).fit(X.reshape(-1, 8, 8), y)
    with pytest.raises(InputError, match=r"`X`: got samples of shape \[6, 6, 1\]"):
        shifting.predict(np.ones((2, 6, 6)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [NearestSubspace(), ReduNet(2), ReduNet(2, construction="covariances")],
    ids=["subspaces", "samples", "covariances"],
)
def test_scikit_learn_accepts_the_estimators(estimator):
    expected = {
        "check_estimators_dtypes": "one of its samples is zero, which has no direction",
        "check_requires_y_none": "the annotation is checked first",
    }
    results = check_estimator(estimator, on_fail=None, expected_failed_checks=expected)
    failed = {row["check_name"]: row["exception"] for row in results if row["status"] == "failed"}
    assert not failed
