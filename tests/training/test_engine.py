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
