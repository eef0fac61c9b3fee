import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.training import TrainConfig
from ncjax.training.optimizers import make_optimizer


def test_epochs_are_measured_densely_first_then_regularly_then_last():
    config = TrainConfig(epochs=25, measure_every=10)
    assert [e for e in range(1, 26) if config.measured(e)] == [1, 2, 4, 8, 10, 20, 25]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_weight_decay_enters_the_gradient_before_momentum(schedule):
    config = TrainConfig(learning_rate=0.1, weight_decay=0.5, momentum=0.9, schedule=schedule)
    optimizer = make_optimizer(config, steps_per_epoch=10)
    params = {"w": jnp.array([2.0])}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update({"w": jnp.array([1.0])}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1 * (1.0 + 0.5 * 2.0)], rtol=1e-6)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "crossentropy"}, "Did you mean 'cross_entropy'"),
        ({"hyperparameters": {"gamma": 1.0}}, "gamma"),
        ({"epochs": 0}, "`epochs`"),
        ({"widths": ()}, "`widths`"),
        ({"widths": (8, 0)}, "`widths`"),
        ({"learning_rate": -0.1}, "`learning_rate`"),
        ({"momentum": 1.0}, "`momentum`"),
        ({"weight_decay": -1.0}, "`weight_decay`"),
        ({"schedule": "linear"}, "`schedule`"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TrainConfig(), **changes)
