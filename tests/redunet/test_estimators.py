import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import tree_leaves_with_path as leaves
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import check_estimator

from ncjax import checks
from ncjax.checks import InputError
from ncjax.redunet import NearestSubspace, ReduNet, persistence


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


@pytest.mark.parametrize("construction", ["samples", "covariances"])
def test_rate_reduction_ascends_layer_by_layer(digits, construction):
    X, _, y, _ = digits
    monitor = ReduNet(20, construction=construction).fit(X, y).monitor_
    assert monitor.reduction.shape == (20,)
    assert np.all(np.diff(monitor.reduction) > 0)
    assert not monitor.falls.size


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


PORTIONS = {
    "one at a time": [[k] for k in (3, 1, 0, 9, 5, 4, 8, 7, 2, 6)],
    "two at a time": [[8, 0], [1, 9], [5, 3], [2, 4], [7, 6]],
    "unevenly": [[7], [0, 2, 9], [3, 8, 6, 5, 4], [1]],
}


@pytest.mark.parametrize("portions", PORTIONS.values(), ids=PORTIONS)
def test_classes_in_any_order_end_in_the_joint_network(digits, portions):
    X, test, y, _ = digits
    with jax.enable_x64(True):
        joint = ReduNet(20, construction="covariances").fit(X, y)
        grown = ReduNet(20, construction="covariances")
        for number, classes in enumerate(portions):
            rows = np.flatnonzero(np.isin(y, classes))
            for part in np.array_split(rows, 1 + number % 2):
                announced = range(10) if number == 0 else None
                grown.partial_fit(X[part], y[part], classes=announced)
        for one, other in ((grown.operators_, joint.operators_), (grown.kept_, joint.kept_)):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), one, other
            )
        np.testing.assert_array_equal(grown.predict(test), joint.predict(test))


def test_nothing_is_kept_of_samples_but_covariances_and_counts(digits, tmp_path):
    X, _, y, _ = digits
    net = ReduNet(2, construction="covariances")
    for half in np.array_split(np.arange(len(y)), 2):
        net.partial_fit(X[half], y[half])
    settings = set(net.get_params())
    fitted = {"classes_", "open_", "kept_", "_network", "n_features_in_"}
    assert set(vars(net)) == settings | fitted
    assert net._network is None  # until it is asked for
    net.save(tmp_path / "net")
    _, _, arrays = persistence.load(tmp_path / "net")
    shapes = {"/".join(k.key for k in path): leaf.shape for path, leaf in leaves(arrays)}
    assert shapes == {
        "kept_/sums": (10, 1, 64, 64),
        "kept_/counts": (10,),
        "monitor_/rate": (2,),
        "monitor_/class_rate": (2,),
        "operators_/expansion": (2, 1, 64, 64),
        "operators_/compression": (2, 10, 1, 64, 64),
        "operators_/alphas": (2, 10),
        "operators_/shares": (2, 10),
    }


def test_what_a_few_samples_make_unstable_does_not_stand_in_the_way_of_more(digits):
    X, test, y, labels = digits
    net = ReduNet(20, construction="covariances")
    few = np.concatenate([np.flatnonzero(y == k)[:30] for k in (0, 1)])
    assert net.step * 64 / (len(few) * net.eps**2) > 2
    net.partial_fit(X[few], y[few])
    with pytest.raises(InputError, match=r"`eps`.*<= 2, so that rounding.*more samples"):
        net.predict(test)
    rest = np.setdiff1d(np.arange(len(y)), few)
    assert net.partial_fit(X[rest], y[rest]).score(test, labels) > 0.9


def test_new_classes_take_their_places_among_the_sorted(digits):
    X, test, y, _ = digits
    net = ReduNet(2, construction="covariances")
    for classes in ([3, 7], [1], [0, 2, 4, 5, 6, 8, 9]):
        rows = np.isin(y, classes)
        net.partial_fit(X[rows], y[rows])
        assert net.classes_.tolist() == sorted(net.classes_)
    joint = ReduNet(2, construction="covariances").fit(X, y)
    np.testing.assert_array_equal(net.predict(test), joint.predict(test))


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
    with pytest.raises(InputError, match=r"`y`: got labels \[11\].*first call"):
        net.partial_fit(X[:1], [11], classes=range(10))
    with pytest.raises(NotFittedError):
        net.predict(X)
    net.partial_fit(X[early], y[early], classes=range(12))  # the refused call left nothing
    assert set(net.predict(test)) == set(range(4))
    with pytest.raises(InputError, match=r"`y`: got labels \[13\].*first call"):
        net.partial_fit(X, np.full(len(X), 13))
    module, variables = net.to_flax()
    slopes = jax.grad(lambda v: module.apply(v, jnp.asarray(X[:9], "f4"))[1].sum())(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


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
    count = len(net.operators_.shares)
    assert 1 < count < 60
    assert len(net.monitor_.reduction) == count + 1
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
    beyond = ReduNet(2, eps=1e-20)
    with pytest.raises(InputError, match=r"`eps`.*larger"):
        beyond.fit(X, y)
    with pytest.raises(NotFittedError):
        beyond.predict(X)
    broken = np.where(X == 1, np.nan, X)
    net = ReduNet(1, construction="covariances").fit(X, y)
    for call in (lambda: ReduNet().fit(broken, y), lambda: net.partial_fit(broken, y)):
        with pytest.raises(ValueError, match="NaN"):
            call()
    with pytest.raises(ValueError, match="NaN"):
        net.predict(broken)
    with pytest.raises(InputError, match=r"`X`: got 1 sample.*the first is 7"):
        net.predict(np.vstack([X[:7], 0 * X[:1]]))
    zero = np.vstack([X[:300], 0 * X[:1]])
    with pytest.raises(InputError, match=r"`X`: got 1 sample.*the first is 300"):
        ReduNet(1, streamed=True, batch_size=50).fit(zero, y[:301])


def test_the_length_of_samples_does_not_matter(digits):
    X, test, y, _ = digits
    X, test = X.astype("f8"), test.astype("f8")
    expected = ReduNet(2).fit(X, y).predict_proba(test)
    for scale in (1e-30, 1e30):
        found = ReduNet(2).fit(scale * X, y).predict_proba(scale * test)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_memory_is_asked_for_by_either_construction(digits, monkeypatch):
    X, _, y, _ = digits
    monkeypatch.setattr(checks, "_device_memory", lambda: 1000)
    for settings in ({}, {"streamed": True}, {"construction": "covariances"}):
        with pytest.raises(InputError, match=r"`num_layers`"):
            ReduNet(2, **settings).fit(X, y)


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
