import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.training import TrainConfig
from ncjax.training.optimizers import decayed, make_optimizer, penalty


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_weight_decay_enters_the_gradient_before_momentum(schedule):
    config = TrainConfig(learning_rate=0.1, weight_decay=0.5, momentum=0.9, schedule=schedule)
    optimizer = make_optimizer(config, steps_per_epoch=10)
    params = {"w": jnp.array([2.0])}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update({"w": jnp.array([1.0])}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1 * (1.0 + 0.5 * 2.0)], rtol=1e-6)


def rates(**settings):
    """The learning rate over the steps of ten epochs of ten, from updates of a unit gradient."""
    config = TrainConfig(learning_rate=0.5, momentum=0.0, weight_decay=0.0, epochs=10, **settings)
    optimizer = make_optimizer(config, steps_per_epoch=10)
    params = {"w": jnp.zeros(1)}
    state, found = optimizer.init(params), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(100):
            updates, state = optimizer.update({"w": jnp.ones(1)}, state, params)
            found.append(-float(updates["w"][0]))
    return np.array(found)


def test_schedules_are_those_of_the_papers():
    np.testing.assert_allclose(rates(schedule="constant"), 0.5, rtol=1e-6)
    steps = rates(schedule="step", drops=(0.2, 0.4, 0.6, 0.8))
    np.testing.assert_allclose(steps, 0.5 * 0.1 ** (np.arange(100) // 20), rtol=1e-5)
    cosine = rates(schedule="cosine")
    np.testing.assert_allclose(
        cosine, 0.25 * (1 + np.cos(np.pi * np.arange(100) / 100)), rtol=1e-4, atol=1e-7
    )


def test_numbers_may_be_traced_as_an_ensemble_needs():
    config = TrainConfig(schedule="constant")
    params = {"w": jnp.array([2.0])}

    def first(rate, decay):
        optimizer = make_optimizer(config, 10, rate, decay)
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update({"w": jnp.array([1.0])}, optimizer.init(params), params)[0]["w"]

    found = jax.vmap(first)(jnp.array([0.1, 0.2]), jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(found[:, 0], [-0.1, -0.4], rtol=1e-6)


def test_with_features_only_the_head_decays():
    params = {"Dense_0": {"kernel": jnp.ones(3)}, "head": {"kernel": jnp.ones(2)}}
    assert decayed(params) == {"Dense_0": {"kernel": False}, "head": {"kernel": True}}
    everything, head = (TrainConfig(decay=decay) for decay in ("all", "features"))
    assert penalty(params, everything, 0.5) == 0.25 * 5
    assert penalty(params, head, 0.5) == 0.25 * 2
