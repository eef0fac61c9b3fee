import dataclasses
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.senet import ElasticNet, SelfExpressiveNet, TrainConfig, train, training
from tests.plugin import ROOT

MODEL = SelfExpressiveNet((64,), 64)
NET = ElasticNet(50.0)
CONFIG = TrainConfig(steps=60, learning_rate=0.02, every=20)


def points_of_planes():
    """Four planes in nine dimensions."""
    rng = np.random.default_rng(0)
    bases = np.linalg.qr(rng.normal(size=(4, 9, 2)))[0]
    found = np.einsum("ndk,nk->nd", bases[np.arange(120) % 4], rng.normal(size=(120, 2)))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype("f4")


@pytest.fixture(scope="module")
def points():
    return points_of_planes()


@pytest.fixture(scope="module")
def trained(points):
    before = training._measured._cache_size()
    found = train(MODEL, points, NET, CONFIG)
    assert training._measured._cache_size() == before + 1  # one program before and after steps
    return found


def test_training_comes_nearer_to_the_exact_coefficients(trained):
    measured = trained.measured
    assert list(measured) == [0, 20, 40, 60]
    assert measured[60].excess < 0.5 * measured[0].excess
    assert measured[60].relative_error.mean() < measured[0].relative_error.mean()
    assert measured[60].kkt_residual.mean() < measured[0].kkt_residual.mean()
    assert trained.losses.shape == (60,)
    assert not trained.converged


def test_blocks_of_keys_do_not_change_the_training(points, trained):
    blocked = train(MODEL, points, NET, dataclasses.replace(CONFIG, steps=60, block=50))
    np.testing.assert_allclose(blocked.losses[:20], trained.losses[:20], rtol=2e-3)


ELSEWHERE = """
import dataclasses, sys
import jax
if len(sys.argv) > 1:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[1]))
from ncjax.senet import train
from tests.senet.test_training import CONFIG, MODEL, NET, points_of_planes
config = dataclasses.replace(CONFIG, steps=20, block=13, batch_size=50)
found = train(MODEL, points_of_planes(), NET, config)
print(len(jax.devices()), len(jax.local_devices()), *found.losses, found.measured[20].excess)
"""


@pytest.fixture(scope="module")
def in_batches(points):
    config = dataclasses.replace(CONFIG, steps=20, batch_size=50)
    found = train(MODEL, points, NET, config)
    return [*found.losses, found.measured[20].excess]


def test_four_devices_train_like_one(in_batches, on_devices):
    devices, ours, *found = map(float, on_devices(ELSEWHERE).split())
    assert (devices, ours) == (4, 4)
    np.testing.assert_allclose(found, in_batches, rtol=2e-3)


def test_two_processes_of_two_devices_train_like_one(in_batches):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    commands = [[sys.executable, "-c", ELSEWHERE, str(process), port] for process in range(2)]
    settings = {"cwd": ROOT, "env": os.environ | {"NPROC": "16"}, "text": True}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, **settings) for command in commands]
    shown = [process.communicate(timeout=200)[0].splitlines()[-1].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert shown[0] == shown[1]
    assert shown[0][:2] == ["4", "2"]
    np.testing.assert_allclose(np.array(shown[0][2:], float), in_batches, rtol=2e-3)


def test_it_stops_at_its_tolerance(points, trained):
    reached = trained.measured[60].excess
    config = dataclasses.replace(CONFIG, tolerance=1.1 * trained.measured[40].excess)
    assert reached <= config.tolerance
    stopped = train(MODEL, points, NET, config)
    assert stopped.converged
    assert len(stopped.losses) == 40


def test_it_goes_on_from_a_network(points, trained):
    more = train(MODEL, points, NET, dataclasses.replace(CONFIG, steps=20), trained)
    np.testing.assert_allclose(more.measured[0].excess, trained.measured[60].excess, rtol=1e-4)


def test_the_papers_settings(points):
    official = SelfExpressiveNet((64,), 64, "official")
    settings = {"optimizer": "adam", "learning_rate": 1e-3, "clip": 1e-3, "batch_size": 30}
    found = train(official, points, NET, dataclasses.replace(CONFIG, **settings))
    assert found.measured[60].excess < found.measured[0].excess


def test_the_offset_is_not_negative(trained):
    assert trained.params["offset"] >= 0  # free, it would end at -0.075


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("block", [13, 8192])
def test_precision_is_that_of_the_points(points, dtype, block):
    config = dataclasses.replace(CONFIG, steps=3, every=3, block=block)
    found = train(MODEL, points.astype(dtype), NET, config)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype(dtype)}
    assert found.measured[3].excess < found.measured[0].excess


def test_what_is_refused(points):
    for settings, name in (({"steps": 0}, "steps"), ({"optimizer": "sgd"}, "optimizer")):
        with pytest.raises(InputError, match=f"`{name}`"):
            train(MODEL, points, NET, dataclasses.replace(CONFIG, **settings))
    with pytest.raises(InputError, match="`points`.*NaN"):
        train(MODEL, np.full_like(points, np.nan), NET, CONFIG)
    with pytest.raises(InputError, match="`points`: got 1 of them"):
        train(MODEL, points[:1], NET, CONFIG)
    with pytest.raises(InputError, match="`learning_rate`.*Lower it"):
        train(MODEL, points, NET, dataclasses.replace(CONFIG, learning_rate=1e38))
