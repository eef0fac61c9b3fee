import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.metrics import ClassMoments, class_moments

K, D, N = 4, 6, 120


def nearly_collapsed(seed: int = 0, within: float = 1e-3, offset: float = 3.0) -> tuple:
    """Features in float32 whose within-class scatter is within^2 of the total."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(K), rng.integers(0, K, N - K)])
    means = offset + rng.normal(size=(K, D))
    features = means[labels] + within * rng.normal(size=(N, D))
    return features.astype(np.float32), labels


def reference(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Two passes in float64 over what float32 holds."""
    features = features.astype(np.float64)
    counts = np.bincount(labels, minlength=K)
    means = np.stack([features[labels == k].mean(0) for k in range(K)])
    deviations = features - means[labels]
    spread = [np.square(deviations[labels == k]).sum() for k in range(K)]
    return {
        "counts": counts,
        "means": means,
        "scatter": deviations.T @ deviations,
        "class_scatter": np.array(spread),
    }


def assert_matches(moments: ClassMoments, expected: dict, rtol: float = 1e-5) -> None:
    np.testing.assert_array_equal(moments.counts, expected["counts"])
    np.testing.assert_allclose(moments.means, expected["means"], rtol=1e-6)
    size = np.abs(expected["scatter"]).max()
    np.testing.assert_allclose(moments.scatter, expected["scatter"], atol=rtol * size, rtol=rtol)
    np.testing.assert_allclose(moments.class_scatter, expected["class_scatter"], rtol=rtol)


def test_one_shot_keeps_its_digits_near_collapse_in_float32():
    features, labels = nearly_collapsed()
    assert_matches(class_moments(features, labels, K), reference(features, labels))


@pytest.mark.parametrize("batch", [7, 32, 119])
def test_streaming_equals_one_shot(batch):
    features, labels = nearly_collapsed()
    moments = ClassMoments.zeros(K, D, jnp.float32)
    for start in range(0, N, batch):
        moments = moments.update(features[start : start + batch], labels[start : start + batch])
    assert_matches(moments, reference(features, labels))


def test_many_rows_are_summed_up_in_blocks(monkeypatch):
    features, labels = nearly_collapsed()
    order = np.argsort(labels)  # blocks without some of the classes
    masked = np.concatenate([features[order], np.full((5, D), 7, np.float32)])
    rows = (masked, np.concatenate([labels[order], np.zeros(5, int)]), np.arange(N + 5) < N)
    whole = class_moments(rows[0], rows[1], K, rows[2])
    monkeypatch.setattr("ncjax.metrics.blocks.BLOCK", 23)
    blocks = class_moments(rows[0], rows[1], K, rows[2])
    assert_matches(blocks, reference(features, labels))
    assert not np.array_equal(whole.origin, blocks.origin)


def test_the_rounding_of_a_mean_is_not_taken_for_scatter():
    labels = np.arange(3 * 37) % 3
    features = np.float32(100 / 3) * np.arange(1, 4, dtype=np.float32)[labels, None]
    moments = class_moments(features, labels, 3)
    rounding = np.asarray(moments.counts) * np.square(np.asarray(moments.offset)).sum(-1)
    assert rounding.max() > 0
    assert np.abs(moments.class_scatter).max() < 1e-4 * rounding.max()
    assert np.abs(moments.scatter).max() < 1e-4 * rounding.max()


def test_merging_is_symmetric_and_zeros_are_its_unit():
    features, labels = nearly_collapsed()
    left, right = (
        class_moments(features[:50], labels[:50], K),
        class_moments(features[50:], labels[50:], K),
    )
    assert_matches(left.merge(right), reference(features, labels))
    assert_matches(right.merge(left), reference(features, labels))
    zeros = ClassMoments.zeros(K, D, jnp.float32)
    assert_matches(zeros.merge(left).merge(right), reference(features, labels))


@pytest.mark.parametrize("sorted_by_class", [False, True])
def test_psum_over_shards_equals_one_shot_even_where_a_shard_lacks_a_class(sorted_by_class):
    features, labels = nearly_collapsed()
    if sorted_by_class:
        order = np.argsort(labels)
        features, labels = features[order], labels[order]
    shards = jax.vmap(
        lambda f, y: class_moments(f, y, K).psum("shards"),
        axis_name="shards",
        out_axes=None,
    )(features.reshape(5, 24, D), labels.reshape(5, 24))
    assert_matches(shards, reference(features, labels))


def test_masked_rows_do_not_count():
    features, labels = nearly_collapsed()
    mask = np.arange(N) < 90
    features[90:] = np.inf
    masked = jax.jit(lambda f: class_moments(f, labels, K, mask))(features)
    assert_matches(masked, reference(features[:90], labels[:90]))


def test_the_global_mean_is_over_samples_not_over_classes():
    features, labels = np.ones((5, 2), np.float32), np.array([0, 0, 0, 0, 1])
    features[4] = 6
    assert class_moments(features, labels, 2).global_mean[0] == 2.0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_features_are_counted_and_summed_in_float32(dtype):
    labels = np.arange(8198) % 2
    moments = class_moments(jnp.asarray(labels[:, None], dtype), labels, 2)
    np.testing.assert_array_equal(moments.counts, [4099, 4099])
    assert moments.means.dtype == jnp.float32
    np.testing.assert_array_equal(moments.means[:, 0], [0, 1])


def test_what_lies_under_the_mask_is_not_looked_at():
    features, labels = nearly_collapsed()
    features[90:], labels[90:] = np.nan, -1
    masked = class_moments(features, labels, K, np.arange(N) < 90)
    assert_matches(masked, reference(features[:90], labels[:90]))


def test_moments_of_other_sizes_are_not_merged():
    with pytest.raises(InputError, match="`other.means`"):
        ClassMoments.zeros(3, 2).merge(ClassMoments.zeros(3, 1))


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.ones((3, 2)), np.array([0, 1, 4]), "`labels`.*0 to 4.*0 to 3"),
        (np.ones((3, 2)), np.array([0.0, 1, 2]), "`labels`.*integer"),
        (np.ones((3, 2)), np.array([0, 1]), "`labels`.*shape"),
        (np.ones(3), np.array([0, 1, 2]), r"`features`.*\[N, d\]"),
        (np.array([[1.0, np.nan]]), np.array([0]), "`features`.*NaN"),
    ],
)
def test_bad_input_is_refused_by_name(features, labels, message):
    with pytest.raises(InputError, match=message):
        class_moments(features, labels, K)
