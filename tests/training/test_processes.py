"""Training in two real processes, and on other devices than before."""

import os
import socket
import subprocess
import sys

import numpy as np

from ncjax import runs
from tests.plugin import ROOT

SCRIPT = """
import dataclasses, sys
import jax
folder, process, port = sys.argv[1:]
if port != "alone":
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))
from ncjax.training import train
from tests.training.conftest import CONFIG
config = dataclasses.replace(
    CONFIG, widths=(16,), epochs=2, measure_every=1, augment="crop", evaluators=("train",)
)
table = train(config, folder, backend="pmap", show_progress=False)
print(table["loss"].iloc[-1])
"""


def start(folder, process, port):
    environment = os.environ | {"NPROC": "16"}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(process), port]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_of_two_devices_train_like_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [start(tmp_path / "both", process, port) for process in range(2)]
    last = [process.communicate(timeout=200)[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert last[0] == last[1]
    alone = start(tmp_path / "alone", 0, "alone")
    alone.communicate(timeout=200)
    assert alone.returncode == 0
    ours, theirs = (runs.read_metrics(tmp_path / name) for name in ("both", "alone"))
    assert list(ours["epoch"]) == [1, 2]
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-2, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-3)


def test_a_state_saved_on_four_devices_goes_on_on_one(on_devices):
    script = """
import dataclasses, jax, numpy as np, pathlib, tempfile
from ncjax import data
from ncjax.training import Engine
from ncjax.training.checkpoints import Checkpoints
from tests.training.conftest import CONFIG

dataset = data.load("digits")
CONFIG = dataclasses.replace(CONFIG, method="sop", sop={"lr_v": 300.0, "inert": True})
folder = pathlib.Path(tempfile.mkdtemp())
four = Engine(CONFIG, dataset, "pmap", jax.devices())
state, _ = four.advance(four.initial())
with Checkpoints(folder / "checkpoints") as checkpoints:
    checkpoints.save(state)
one = Engine(CONFIG, dataset, "pmap", jax.devices()[:1])
with Checkpoints(folder / "checkpoints") as checkpoints:
    restored = checkpoints.restore(one.initial())
jax.tree.map(np.testing.assert_array_equal, vars(restored), jax.device_get(vars(state)))
for _ in range(2):
    restored, loss = one.advance(restored)
    state, expected = four.advance(state)
np.testing.assert_allclose(loss, expected, rtol=1e-3)
grown = np.abs(np.asarray(state.samples.v)) > 1e-7
assert grown.mean() > 0.01
np.testing.assert_allclose(restored.samples.v, state.samples.v, rtol=2e-2)
print("agreed")
"""
    assert on_devices(script).strip() == "agreed"
