import jax
import numpy as np
import pytest

from ncjax import losses, metrics, models
from ncjax.parallel import AXIS, shard_batches
from ncjax.training.measure import make_evaluate, make_measure


@pytest.mark.parametrize(("shards", "batch_size"), [(1, 1024), (1, 7), (3, 5), (4, 4)])
def test_a_sharded_batched_measurement_is_that_of_all_features_at_once(shards, batch_size):
    model = models.MLP(3, widths=(6,))
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(23, 4)).astype(np.float32), np.arange(23) % 3
    variables = model.init(jax.random.key(0), images)
    batches = shard_batches((images, labels), shards, batch_size)
    assert batches[0].shape[0] == shards
    assert batches[0].shape[2] <= batch_size
    assert batches[-1].sum() == 23

    axes = {"in_axes": (None, 0, 0, 0), "axis_name": AXIS}
    measure = jax.vmap(make_measure(model, losses.mse), out_axes=(None, None), **axes)
    row, moments = jax.jit(measure)(variables, *batches)
    logits, features = model.apply(variables, images)
    whole = metrics.class_moments(features, labels, 3)
    W, b = models.classifier(variables["params"])
    samples = metrics.sample_geometry(features, labels, whole, W, b)
    expected = metrics.collapse(whole, W, b).as_dict() | {
        "loss": losses.mse(logits, labels).mean(),
        "accuracy": (logits.argmax(-1) == labels).mean(),
        "nc4_agreement": samples.nc4_agreement,
        "cosine_margin": samples.cosine_margin.mean(),
    }
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(row[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(moments.counts, whole.counts)

    evaluate = jax.vmap(make_evaluate(model, losses.mse), out_axes=None, **axes)
    tested = jax.jit(evaluate)(variables, *batches)
    assert tested.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose(tested["loss"], expected["loss"], rtol=1e-5)
