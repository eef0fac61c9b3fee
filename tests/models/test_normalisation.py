import jax
import jax.numpy as jnp
import numpy as np

from ncjax.models.normalisation import BatchNorm
from ncjax.parallel import AXIS

x = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 5))


def normalised(axis_name, shards):
    norm = BatchNorm(use_running_average=False, axis_name=axis_name)
    variables = BatchNorm(use_running_average=True).init(jax.random.key(0), x)
    apply = jax.vmap(
        lambda part: norm.apply(variables, part, mutable=["batch_stats"]), axis_name=AXIS
    )
    y, updated = apply(x.reshape(shards, -1, 5))
    return y.reshape(8, 5), updated["batch_stats"]


def test_shared_statistics_are_those_of_the_whole_batch_and_own_ones_of_the_share():
    whole, _ = normalised(None, 1)
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-5)
    shared, statistics = normalised(AXIS, 4)
    np.testing.assert_allclose(shared, whole, atol=1e-4)
    np.testing.assert_allclose(statistics["mean"][0], 0.1 * x.mean(0), rtol=1e-4)
    own, _ = normalised(None, 4)
    assert abs(own - whole).max() > 0.1


def test_half_precision_is_normalised_with_whole_statistics():
    norm = BatchNorm(use_running_average=False, dtype=jnp.bfloat16)
    variables = norm.init(jax.random.key(0), x.astype(jnp.bfloat16))
    y, updated = norm.apply(variables, x.astype(jnp.bfloat16), mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert updated["batch_stats"]["mean"].dtype == jnp.float32
