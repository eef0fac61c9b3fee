import numpy as np
import pytest

from ncjax import data
from ncjax.checks import InputError


def test_digits_are_the_real_images_split_by_class():
    digits = data.load("digits")
    assert digits.images.shape == (1437, 8, 8)
    assert digits.test_images.shape == (360, 8, 8)
    assert digits.images.dtype == np.float32
    assert digits.images.min() == 0
    assert digits.images.max() == 1
    counts = np.bincount(digits.labels, minlength=10)
    assert counts.min() >= 139
    together = np.concatenate([digits.images, digits.test_images])
    assert len(np.unique(together.reshape(1797, -1), axis=0)) == 1797


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_arrays_come_from_npz_with_or_without_a_test_set(tmp_path):
    images, labels = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
    found = data.load(save(tmp_path / "own.npz", images=images, labels=labels))
    assert found.num_classes == 3
    assert len(found.test_labels) == 0
    np.testing.assert_allclose(found.images, images, rtol=1e-6)
    tested = save(
        tmp_path / "t.npz", images=images, labels=labels, test_images=images, test_labels=labels
    )
    assert len(data.load(tested).test_labels) == 6


def test_texts_stay_word_numbers(tmp_path):
    texts, labels = np.array([[3, 1, 0], [2, 2, 2]]), np.array([0, 1])
    both = {"texts": texts, "test_texts": texts[:1]}
    found = data.load(save(tmp_path / "t.npz", **both, labels=labels, test_labels=labels[:1]))
    assert found.images.dtype == found.test_images.dtype == np.int32
    np.testing.assert_array_equal(found.images, texts)


GOOD = {"images": np.ones((4, 2)), "labels": np.array([0, 1, 0, 1])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "`file`.*which has images.*an .npz file with arrays images, labels"),
        ({"labels": np.array([0, 1, 0])}, "`labels`.*shape"),
        ({"labels": np.array([0, 2, 0, 2])}, "no sample of class 1"),
        ({"labels": np.array([0, -1, 0, 1])}, "`labels`.*-1"),
        ({"labels": np.array([0.5, 1, 0, 1])}, "`labels`.*integer"),
        ({"labels": np.zeros(4, int)}, "`labels`.*single class"),
        ({"labels": np.array(list("abab"))}, "`labels`.*integer"),
        ({"images": np.array([["a"] * 2] * 4)}, "`images`.*numeric"),
        ({"images": np.ones(4)}, r"`images`.*shape \(4,\)"),
        ({"test_images": np.ones((2, 3)), "test_labels": np.array([0, 1])}, "`test_images`.*shape"),
        ({"images": np.full((4, 2), np.nan)}, "`images`.*NaN"),
        ({"images": np.array([None] * 4)}, "`file`.*can't be read"),
        ({"images": None, "texts": np.ones((4, 2))}, "`texts`.*float64.*word numbers"),
        ({"images": None, "texts": np.full((4, 2), -1)}, "`texts`.*from -1.*word numbers"),
    ],
)
def test_unfit_files_are_refused_by_what_is_wrong(tmp_path, changes, message):
    arrays = {name: array for name, array in (GOOD | changes).items() if array is not None}
    with pytest.raises(InputError, match=message):
        data.load(save(tmp_path / "bad.npz", **arrays))


def test_unknown_names_missing_files_and_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match="`dataset`.*Did you mean 'digits'"):
        data.load("digit")
    with pytest.raises(InputError, match="does not exist"):
        data.load(str(tmp_path / "nowhere.npz"))
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(InputError, match="can't be read"):
        data.load(str(tmp_path / "text.npz"))
