import dataclasses
import json

import pytest

from ncjax import models
from ncjax.checks import InputError
from ncjax.data import Corruption
from ncjax.training import TrainConfig


def test_epochs_are_measured_densely_first_then_regularly_then_last():
    config = TrainConfig(epochs=25, measure_every=10)
    assert [e for e in range(1, 26) if config.measured(e)] == [1, 2, 4, 8, 10, 20, 25]
    config = TrainConfig(epochs=25, measure_every=0)
    assert [e for e in range(1, 26) if config.measured(e)] == [25]


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
        ({"network": "resnet19"}, "Did you mean 'resnet18'"),
        ({"optimizer": "sgdd"}, "Did you mean 'sgd'"),
        ({"clip": 0.0}, "`clip`"),
        ({"drops": (0.5, 1.5)}, "`drops`"),
        ({"feature_dim": 0}, "`feature_dim`"),
        ({"feature_decay": 1e-3}, "`feature_decay`.*decay='features'"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TrainConfig(), **changes)


def test_a_config_comes_back_from_json():
    config = TrainConfig(
        corruption=Corruption("symmetric", noise=0.2), widths=(8,), drops=(0.5,), clip=2.0
    )
    fields = json.loads(json.dumps(dataclasses.asdict(config)))
    assert TrainConfig(**fields) == config


@pytest.mark.parametrize(
    ("network", "kind", "dim"),
    [("mlp", models.MLP, 7), ("cnn", models.CNN, 128), ("resnet34", models.ResNet, None)],
)
def test_the_network_is_built_from_the_config(network, kind, dim):
    config = TrainConfig(network=network, widths=(9, 7), width=4, head="etf", head_bias=False)
    model = config.model(3, "devices", "product")
    assert isinstance(model, kind)
    assert (model.head, model.head_bias, model.axis_name) == ("etf", False, "devices")
    if dim:
        assert (model.widths[-1] if network == "mlp" else model.feature_dim) == dim
    own = dataclasses.replace(config, batch_norm="per_device").model(3, "devices")
    assert own.axis_name is None
