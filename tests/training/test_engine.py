import dataclasses

import numpy as np
import pytest

from ncjax import data
from ncjax.checks import InputError
from ncjax.training import Engine, TrainConfig

ON_DEVICES = """
import dataclasses, jax, numpy as np
from ncjax import data
from ncjax.training import Engine, measure
from tests.training.conftest import CONFIG

dataset = data.load("digits")
config = dataclasses.replace(CONFIG, epochs=3, evaluators=("train",))
rows = {}
for backend in ("vmap", "pmap", "shard_map"):
    for devices in (jax.devices()[:1], jax.devices()):
        engine = Engine(config, dataset, backend, devices)
        state = engine.initial()
        for _ in range(2):
            state, _ = engine.advance(state)
        rows[backend, len(devices)] = measure(engine, state)[0]
first = rows["pmap", 1]
assert first["accuracy"] > 0.9
for key, row in rows.items():
    for name, value in row.items():
        where = f"{key} {name}"
        np.testing.assert_allclose(value, first[name], rtol=2e-2, atol=2e-3, err_msg=where)
    np.testing.assert_allclose(row["loss"], first["loss"], rtol=1e-3)
print("agreed")
"""


def test_training_and_measuring_agree_over_backends_and_device_counts(on_devices):
    assert on_devices(ON_DEVICES).strip() == "agreed"


PARTS = ("train", "clean", "validation", "test")


def test_all_parts_are_measured_by_one_program():
    dataset = data.load("digits").corrupt(data.Corruption(per_class=20, validation=5))
    engine = Engine(TrainConfig(widths=(4,), batch_size=50, epochs=1), dataset, "vmap")
    state = engine.initial()
    counts = [int(engine.collapse(state, part)[1].num_samples) for part in PARTS]
    assert counts == [200, 200, 50, len(dataset.test_labels)]
    assert engine._measures["whole"]._cache_size() == 1


def texts(count=60, vocabulary=20):
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 3).astype(np.int32)
    tokens = rng.integers(1, vocabulary, (count, 6)).astype(np.int32)
    tokens[:, 0] = labels + 1  # the first word tells the class
    nothing = tokens[:0], labels[:0]
    return data.Dataset("texts", 3, tokens, labels, labels, *nothing)


@pytest.mark.parametrize("network", ["bag", "textcnn"])
def test_networks_of_texts_learn_the_word_that_tells(network):
    config = TrainConfig(
        network=network, width=8, widths=(16,), vocabulary=20, batch_size=20, epochs=40
    )
    engine = Engine(config, texts(), "vmap")
    state = engine.initial()
    for _ in range(config.epochs):
        state, _ = engine.advance(state)
    assert engine.collapse(state)[0]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "mlp"}, "`network`: got 'mlp' for word numbers"),
        ({"network": "bag", "vocabulary": 10}, "`vocabulary`: got 10 for word numbers up to 19"),
    ],
)
def test_word_numbers_go_with_networks_of_texts(changes, message):
    config = TrainConfig(batch_size=20, **changes)
    with pytest.raises(InputError, match=message):
        Engine(config, texts(), "vmap")
    with pytest.raises(InputError, match="a network of images"):
        Engine(TrainConfig(network="bag"), data.load("digits"), "vmap")


def test_autoencoders_want_inputs_between_0_and_1():
    dataset = dataclasses.replace(data.load("digits"), images=2 * data.load("digits").images)
    with pytest.raises(InputError, match="`network`.*'autoencoder' for inputs from 0 to 2"):
        Engine(TrainConfig(network="autoencoder"), dataset, "vmap")
