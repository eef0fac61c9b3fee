import jax
import numpy as np
import pytest

from ncjax import losses, metrics, models
from ncjax.parallel import AXIS
from ncjax.training import TrainConfig
from ncjax.training.examples import Store
from ncjax.training.measure import make_layers, make_measure
from ncjax.training.members import member_of
from ncjax.training.steps import Task

config = TrainConfig(loss="mse", widths=(5, 6))
member = member_of(config, [config])
model = models.MLP(3, widths=(5, 6))
task = Task(config, model, ("mse",), inputs=lambda x: 2 * x, numbers=np.arange(23))
rng = np.random.default_rng(0)
images, labels = rng.normal(size=(23, 4)).astype(np.float32), np.arange(23) % 3
clean = np.where(np.arange(23) < 6, (labels + 1) % 3, labels)
variables = model.init(jax.random.key(0), images)


def measured(make, out_axes, shards, batch_size):
    others = np.full((40, 4), np.nan, np.float32), np.zeros(40, labels.dtype)
    images_of, labels_of, clean_of = (
        np.concatenate([other, own])
        for other, own in zip((others[0], *[others[1]] * 2), (images, labels, clean), strict=True)
    )
    parts = {"train": range(40), "test": range(40, 63)}
    store = Store(images_of, labels_of, clean_of, parts)
    rows, mask, count = store.batches("test", shards, batch_size)
    axes = {"in_axes": (None, None, None, None, None, 0, 0, None), "axis_name": AXIS}
    arrays = (images_of, labels_of, clean_of, rows, mask, count)
    return jax.jit(jax.vmap(make(task), out_axes=out_axes, **axes))(member, variables, *arrays)


@pytest.mark.parametrize(("shards", "batch_size"), [(1, 1024), (1, 7), (3, 5), (4, 4)])
def test_a_sharded_batched_measurement_is_that_of_all_features_at_once(shards, batch_size):
    row, moments = measured(make_measure, (None, None), shards, batch_size)
    logits, features = model.apply(variables, 2 * images)
    whole = metrics.class_moments(features, labels, 3)
    W, b = models.classifier(variables)
    samples = metrics.sample_geometry(features, labels, whole, W, b)
    expected = metrics.collapse(whole, W, b).as_dict() | {
        "loss": losses.mse(logits, labels).mean(),
        "accuracy": (logits.argmax(-1) == labels).mean(),
        "clean_accuracy": (logits.argmax(-1) == clean).mean(),
        "memorised": ((logits.argmax(-1) == labels) & (labels != clean)).mean(),
        "nc4_agreement": samples.nc4_agreement,
        "cosine_margin": samples.cosine_margin.mean(),
        "recalls": [(logits.argmax(-1) == k)[labels == k].mean() for k in range(3)],
    }
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(row[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(moments.counts, whole.counts)


def test_every_layer_is_measured_and_the_last_is_the_feature_layer():
    row = measured(make_layers, None, 2, 5)
    assert {name.split("/")[0] for name in row} == {"layer_0", "layer_1"}
    whole, _ = measured(make_measure, (None, None), 2, 5)
    for name in ("nc1_pinv", "nc1_trace_ratio", "nc2_means"):
        np.testing.assert_allclose(row[f"layer_1/{name}"], whole[name], rtol=1e-4)
        assert not np.isclose(row[f"layer_0/{name}"], whole[name], rtol=1e-2)
