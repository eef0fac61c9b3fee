import numpy as np
import pandas as pd
import pytest

from ncjax.checks import InputError
from ncjax.redunet import ReduNet, ShiftInvariantReduNet

RNG = np.random.default_rng(0)
NAMES = np.array(["a", "bc", "d"])
LABELS = NAMES[np.arange(24) % 3]
SIGNALS = RNG.normal(size=(24, 6)) + RNG.normal(size=(3, 6))[np.arange(24) % 3]


@pytest.mark.parametrize("classifier", ["network", "nearest_subspace", "knn", "svm"])
def test_what_is_loaded_predicts_the_same(classifier, tmp_path):
    net = ReduNet(2, classifier=classifier).fit(SIGNALS, LABELS)
    net.save(tmp_path / "net")
    loaded = ReduNet.load(tmp_path / "net")
    assert loaded.get_params() == net.get_params()
    np.testing.assert_array_equal(loaded.transform(SIGNALS), net.transform(SIGNALS))
    np.testing.assert_array_equal(loaded.predict(SIGNALS), net.predict(SIGNALS))
    np.testing.assert_array_equal(loaded.monitor_.reduction, net.monitor_.reduction)
    assert loaded.predict(SIGNALS).dtype == LABELS.dtype


def test_a_loaded_network_takes_further_classes(tmp_path):
    early = LABELS != "d"
    settings = {"positions": 1, "channels": 3, "filter_size": 2, "construction": "covariances"}
    net = ShiftInvariantReduNet(2, **settings).fit(SIGNALS[early], LABELS[early])
    net.save(tmp_path / "net")
    loaded = ShiftInvariantReduNet.load(tmp_path / "net")
    for one in (net, loaded):
        one.partial_fit(SIGNALS[~early], LABELS[~early])
    np.testing.assert_array_equal(loaded.predict_proba(SIGNALS), net.predict_proba(SIGNALS))
    with pytest.raises(InputError, match=r"`folder`: got a saved ShiftInvariantReduNet"):
        ReduNet.load(tmp_path / "net")
    with pytest.raises(InputError, match=r"`folder`.*a new folder"):
        net.save(tmp_path / "net")


def test_numbers_of_numpy_and_names_of_columns_are_saved_too(tmp_path):
    table = pd.DataFrame(SIGNALS, columns=list("abcdef"))
    net = ReduNet(np.int64(2), eps=np.float32(0.3)).fit(table, LABELS)
    net.save(tmp_path / "net")
    loaded = ReduNet.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.predict(table), net.predict(table))
    assert loaded.feature_names_in_.tolist() == list("abcdef")


def test_only_what_was_saved_to_the_end_is_loaded(tmp_path):
    net = ReduNet(1).fit(SIGNALS, LABELS)
    net.save(tmp_path / "net")
    (tmp_path / "net" / "settings.json").unlink()
    with pytest.raises(InputError, match=r"`folder`.*whole"):
        ReduNet.load(tmp_path / "net")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"`folder`.*writable"):
        net.save(tmp_path / "file" / "net")
