import json

import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.measure import measure_file
from ncjax.metrics import class_moments, collapse


def arrays(**changes):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    features = (rng.normal(size=(3, 5))[labels] + 0.1 * rng.normal(size=(24, 5))).astype("f4")
    W, b = rng.normal(size=(3, 5)).astype("f4"), rng.normal(size=3).astype("f4")
    named = {"features": features, "labels": labels, "W": W, "b": b} | changes
    return {name: array for name, array in named.items() if array is not None}


def test_a_file_is_measured_in_float64_and_the_results_written(tmp_path):
    given = arrays()
    np.savez(tmp_path / "net.npz", **given)
    found = measure_file(tmp_path / "net.npz", tmp_path / "out")
    moments = class_moments(given["features"], given["labels"], 3)
    for name, value in collapse(moments, given["W"], given["b"]).as_dict().items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    logits = given["features"] @ given["W"].T + given["b"]
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == given["labels"]).mean())
    written = json.loads((tmp_path / "out" / "collapse.json").read_text())
    assert written["measures"] == found
    assert (tmp_path / "out" / "collapse.png").stat().st_size > 10000


def test_features_alone_are_enough_and_what_is_undefined_is_none(tmp_path):
    np.savez(tmp_path / "net.npz", **arrays(W=None, b=None, features=np.ones((24, 5))))
    found = measure_file(tmp_path / "net.npz", tmp_path / "out")
    assert found["nc1_pinv"] is None
    assert "nc3_etf" not in found


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "`file`.*features, labels.*and optionally W, b"),
        ({"labels": np.full(24, 3)}, "`labels`.*0 to 2"),
        ({"labels": np.zeros(24, int)}, "no sample of class 1, 2"),
        ({"labels": np.zeros(23, int)}, "`labels`.*shape"),
        ({"features": np.full((24, 5), np.nan)}, "`features`.*NaN"),
        ({"features": np.ones((24, 5), int)}, "`features`.*floating"),
        ({"W": np.ones((3, 4))}, "`W`.*shape"),
        ({"W": np.ones((5, 3))}, "`W`.*shape"),
        ({"W": np.ones(())}, "`W`.*shape"),
        ({"labels": np.array(["a"] * 24)}, "`labels`.*integer"),
        ({"W": None, "b": None, "labels": np.zeros(24, int)}, "`labels`.*single class"),
        ({"b": np.ones(4)}, "`b`.*shape"),
        ({"W": None}, "`b`.*without W"),
    ],
)
def test_unfit_arrays_are_refused_by_name(tmp_path, changes, message):
    np.savez(tmp_path / "net.npz", **arrays(**changes))
    with pytest.raises(InputError, match=message):
        measure_file(tmp_path / "net.npz", tmp_path / "out")
