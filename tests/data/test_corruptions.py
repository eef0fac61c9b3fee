import numpy as np
import pytest

from ncjax import data
from ncjax.checks import InputError
from ncjax.data import Corruption

labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 2000)).astype(np.int32)


@pytest.mark.parametrize(("kind", "rate"), [("symmetric", 0.4 * 4 / 5), ("symmetric_others", 0.4)])
def test_symmetric_noise_has_its_rate_and_spreads_evenly(kind, rate):
    noisy = Corruption(kind, noise=0.4).corrupted(labels, 5)
    assert (noisy != labels).mean() == pytest.approx(rate, abs=0.015)
    for k in range(5):
        counts = np.bincount(noisy[labels == k], minlength=5)
        np.testing.assert_allclose(np.delete(counts, k) / 2000, rate / 4, atol=0.025)


def test_asymmetric_noise_confuses_a_class_with_one_other():
    noisy = Corruption("asymmetric", noise=0.3).corrupted(labels, 5)
    moved = noisy != labels
    assert moved.mean() == pytest.approx(0.3, abs=0.015)
    np.testing.assert_array_equal(noisy[moved], (labels[moved] + 1) % 5)
    ten = np.repeat(np.arange(10), 100)
    always = Corruption("asymmetric", noise=1.0).corrupted(ten, 10, "cifar10")
    assert {(a, b) for a, b in zip(ten, always, strict=True) if a != b} == {
        (9, 1), (2, 0), (4, 7), (3, 5), (5, 3)
    }  # fmt: skip


def test_random_labels_keep_the_sizes_of_the_classes_and_nothing_else():
    random = Corruption("random").corrupted(labels, 5)
    np.testing.assert_array_equal(np.bincount(random), np.bincount(labels))
    assert (random == labels).mean() == pytest.approx(1 / 5, abs=0.02)


def test_a_long_tail_falls_exponentially_by_true_class():
    rows = Corruption(imbalance=100.0).kept(labels, 5)
    counts = np.bincount(labels[rows])
    np.testing.assert_allclose(counts, 2000 * 100.0 ** (-np.arange(5) / 4), atol=0.5)
    assert np.all(np.diff(rows) > 0)


def test_a_share_keeps_the_proportions_of_classes():
    unequal = np.repeat([0, 1, 2], [500, 60, 3])
    counts = np.bincount(unequal[Corruption(share=0.1).kept(unequal, 3)])
    np.testing.assert_array_equal(counts, [50, 6, 1])
    both = Corruption(share=0.1, per_class=100).kept(unequal, 3)
    np.testing.assert_array_equal(np.bincount(unequal[both]), [10, 6, 1])


def test_an_example_keeps_its_noise_and_subsets_are_nested_whatever_else_is_asked_for():
    digits = data.load("digits")
    noisy = digits.corrupt(Corruption("symmetric", noise=0.5))
    both = digits.corrupt(Corruption("symmetric", noise=0.5, per_class=30))
    fewer = digits.corrupt(Corruption("symmetric", noise=0.5, per_class=10))
    assert np.bincount(both.clean_labels).tolist() == [30] * 10
    for small, large in [(both, noisy), (fewer, both)]:
        pairs = zip(large.images, large.labels, strict=True)
        label_of = {image.tobytes(): label for image, label in pairs}
        assert all(
            label_of[x.tobytes()] == y for x, y in zip(small.images, small.labels, strict=True)
        )
    assert both.noise_rate == np.mean(both.labels != both.clean_labels) > 0.3
    assert len(both.test_labels) == 360
    other = digits.corrupt(Corruption("symmetric", noise=0.5, seed=1))
    assert np.any(other.labels != noisy.labels)
    assert len({digits.fingerprint, noisy.fingerprint, other.fingerprint}) == 3


def test_validation_is_taken_out_with_true_labels_and_the_rest_keeps_its_numbers():
    digits = data.load("digits")
    noisy = digits.corrupt(Corruption("symmetric", noise=0.5))
    found = digits.corrupt(Corruption("symmetric", noise=0.5, per_class=30, validation=7))
    assert np.bincount(found.validation_labels).tolist() == [7] * 10
    assert np.bincount(found.clean_labels).tolist() == [30] * 10
    np.testing.assert_array_equal(found.images, digits.images[found.numbers])
    np.testing.assert_array_equal(found.labels, noisy.labels[found.numbers])
    held = {image.tobytes(): y for image, y in zip(digits.images, digits.labels, strict=True)}
    pairs = zip(found.validation_images, found.validation_labels, strict=True)
    assert all(held[image.tobytes()] == y for image, y in pairs)
    trained = {image.tobytes() for image in found.images}
    assert not any(image.tobytes() in trained for image in found.validation_images)
    np.testing.assert_array_equal(digits.numbers, np.arange(1437))
    other = digits.corrupt(Corruption("symmetric", noise=0.5, per_class=30, validation=8))
    assert other.fingerprint != found.fingerprint
    with pytest.raises(InputError, match="`validation`: got 139"):
        digits.corrupt(Corruption(validation=139))


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "symetric"}, "Did you mean 'symmetric'"),
        ({"noise": 1.5}, "`noise`"),
        ({"imbalance": 0.5}, "`imbalance`.*at least 1"),
        ({"share": 0.0}, "`share`"),
        ({"share": 1.5}, "`share`.*at most 1"),
        ({"per_class": 0}, "`per_class`"),
        ({"validation": -1}, "`validation`"),
    ],
)
def test_unfit_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Corruption(**settings)


def test_corrupting_twice_is_refused():
    once = data.load("digits").corrupt(Corruption("random"))
    with pytest.raises(InputError, match="corrupted, but it must be clean"):
        once.corrupt(Corruption("random"))


def test_the_seed_draws_which_examples_stay_and_which_are_held_out():
    labels = np.arange(90) % 3
    whole = [Corruption(per_class=10, validation=5, seed=seed) for seed in range(3)]
    for part in ("kept", "held_out"):
        rows = [set(getattr(one, part)(labels, 3).tolist()) for one in whole]
        assert rows[0] != rows[1] != rows[2] != rows[0]
    fewer = Corruption(per_class=4, validation=5).kept(labels, 3)
    assert set(fewer.tolist()) < set(whole[0].kept(labels, 3).tolist())
