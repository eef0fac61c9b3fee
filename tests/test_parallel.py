import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import parallel
from ncjax.checks import InputError
from tests.plugin import ROOT


def noisy_square(key, item):
    return {"square": item["x"] ** 2, "noise": jax.random.normal(key, (2,))}


ITEMS = {"x": np.arange(7, dtype=np.float32)}


def expected(ids: np.ndarray) -> np.ndarray:
    key = jax.random.key(5)
    return np.stack([jax.random.normal(jax.random.fold_in(key, int(i)), (2,)) for i in ids])


@pytest.mark.parametrize("backend", parallel.BACKENDS)
@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 20])
def test_results_depend_neither_on_backend_nor_on_chunks(backend, chunk):
    found = parallel.sweep(noisy_square, ITEMS, key=jax.random.key(5), chunk=chunk, backend=backend)
    np.testing.assert_array_equal(found["square"], ITEMS["x"] ** 2)
    np.testing.assert_allclose(found["noise"], expected(np.arange(7)), rtol=1e-6)


@pytest.mark.parametrize("backend", parallel.BACKENDS)
@pytest.mark.parametrize("chunk", [None, 3])
def test_few_items_at_once_give_what_all_at_once_give(backend, chunk):
    settings = {"key": jax.random.key(5), "chunk": chunk, "backend": backend}
    found = parallel.sweep(noisy_square, ITEMS, together=2, **settings)
    whole = parallel.sweep(noisy_square, ITEMS, **settings)
    np.testing.assert_array_equal(found["square"], whole["square"])
    np.testing.assert_array_equal(found["noise"], whole["noise"])


def test_numbered_items_are_the_same_items_of_a_longer_list():
    part = {"x": ITEMS["x"][4:6]}
    found = parallel.sweep(noisy_square, part, key=jax.random.key(5), ids=np.array([4, 5]), chunk=4)
    np.testing.assert_allclose(found["noise"], expected(np.array([4, 5])), rtol=1e-6)


ON_DEVICES = """
import jax, numpy as np, jax.numpy as jnp
from ncjax import parallel
from ncjax.metrics import class_moments
from tests.test_parallel import ITEMS, expected, noisy_square

assert jax.local_device_count() == 4
for backend in parallel.BACKENDS:
    for chunk in (None, 3, 5):
        settings = {"key": jax.random.key(5), "chunk": chunk, "backend": backend}
        found = parallel.sweep(noisy_square, ITEMS, **settings)
        np.testing.assert_array_equal(found["square"], ITEMS["x"] ** 2)
        np.testing.assert_allclose(found["noise"], expected(np.arange(7)), rtol=1e-6)

rng = np.random.default_rng(0)
labels = rng.integers(0, 3, (4, 8))
features = np.float32(5 + labels[..., None] + 1e-3 * rng.normal(size=(4, 8, 2)))
whole = class_moments(features.reshape(32, 2), labels.ravel(), 3)

def joined(scale, features, labels):
    moments = class_moments(features, labels, 3).psum(parallel.AXIS)
    return scale * moments.scatter, jax.lax.axis_index(parallel.AXIS)

for backend in parallel.BACKENDS:
    run = parallel.across_devices(joined, in_axes=(None, 0, 0), out_axes=(None, 0), backend=backend)
    scatter, index = jax.block_until_ready(run(jnp.float32(2), features, labels))
    np.testing.assert_allclose(scatter, 2 * whole.scatter, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(index, np.arange(4))
print("agreed")
"""


def test_four_devices_give_what_one_gives(on_devices):
    assert on_devices(ON_DEVICES).strip() == "agreed"


def test_one_function_compiles_once():
    traces = []

    def counted(x):
        traces.append(x)
        return x + 1

    for size in (4, 4, 3):
        parallel.sweep(counted, np.arange(size), chunk=4)
    assert len(traces) == 1


@pytest.mark.parametrize("backend", parallel.BACKENDS)
def test_a_loop_over_results_compiles_once(backend):
    traced = []

    def step(state, rows):
        traced.append(1)
        return jax.tree.map(lambda leaf: leaf + jax.lax.psum(rows.sum(), parallel.AXIS), state)

    over = {"in_axes": (None, 0), "out_axes": None, "devices": jax.devices()[:1]}
    step = parallel.across_devices(step, backend=backend, **over)
    for state in ({"w": np.zeros(3, "f4")}, {"w": jnp.zeros(3)}):
        for _ in range(3):
            state = step(state, np.ones((1, 2), "f4"))
        np.testing.assert_array_equal(state["w"], 6)
    assert len(traced) == 1


def test_the_mapped_function_may_return_several_outputs_with_their_own_axes():
    def fn(x):
        return jax.lax.psum(x, parallel.AXIS), x

    run = parallel.across_devices(fn, in_axes=(0,), out_axes=(None, 0), backend="vmap")
    total, each = run(jnp.arange(3.0))
    assert total == 3.0
    np.testing.assert_array_equal(each, [0, 1, 2])


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parallel.sweep(abs, np.ones(3), backend="pmapp"), "Did you mean 'pmap'"),
        (lambda: parallel.sweep(abs, np.ones(0)), "`items`.*non-empty"),
        (lambda: parallel.sweep(abs, {"a": np.ones(2), "b": np.ones(3)}), "`items`.*common"),
        (lambda: parallel.sweep(abs, np.ones(3), chunk=0), "`chunk`.*at least 1"),
        (lambda: parallel.sweep(abs, np.ones(3), together=0), "`together`.*at least 1"),
        (lambda: parallel.sweep(abs, np.ones(3), ids=np.arange(2)), "`ids`"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_a_sharded_argument_must_have_one_slice_a_device(backend):
    run = parallel.across_devices(abs, in_axes=(0,), backend=backend, devices=jax.devices()[:1])
    with pytest.raises(InputError, match=r"`argument 0`.*\(2,\).*each of 1 device"):
        run(np.ones((2, 3)))


def test_every_core_becomes_a_device_unless_a_number_was_given(on_devices):
    script = """
import jax
from ncjax import parallel
parallel.use_all_cores()
devices = len(jax.devices())
parallel.use_all_cores()  # too late, and harmless
print(devices, len(jax.devices()), parallel.cores())
"""
    given = on_devices(script, devices=3).split()
    assert given[:2] == ["3", "3"]
    plain = os.environ | {"XLA_FLAGS": ""}
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, env=plain, cwd=ROOT, capture_output=True, text=True, check=True)
    devices, after, cores = shown.stdout.split()
    assert devices == after == cores


@pytest.mark.usefixtures("no_type_checks")
def test_a_cpu_takes_items_with_loops_one_by_one():
    assert parallel.together_for_loops() == 1
    accelerator = SimpleNamespace(platform="tpu")
    assert parallel.together_for_loops([accelerator]) is None


TWO_PROCESSES = """
import sys, jax, numpy as np
process = int(sys.argv[1])
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, process)
from ncjax import parallel
from ncjax.metrics import class_moments

rng = np.random.default_rng(0)
labels = rng.integers(0, 3, (4, 8))
features = np.float32(5 + labels[..., None] + 1e-3 * rng.normal(size=(4, 8, 2)))
whole = class_moments(features.reshape(32, 2), labels.ravel(), 3)
mine = slice(2 * process, 2 * process + 2)

def joined(scale, features, labels):
    moments = class_moments(features, labels, 3).psum(parallel.AXIS)
    return scale * moments.scatter, jax.lax.axis_index(parallel.AXIS)

for backend in ("pmap", "shard_map"):
    run = parallel.across_devices(
        joined, in_axes=(None, 0, 0), out_axes=(None, 0), backend=backend, devices=jax.devices()
    )
    scatter, index = run(np.float32(2), features[mine], labels[mine])
    scatter = np.asarray(scatter.addressable_data(0))
    np.testing.assert_allclose(scatter, 2 * whole.scatter, rtol=1e-5, atol=1e-9)
    places = sorted(int(shard.data.ravel()[0]) for shard in index.addressable_shards)
    assert places == [2 * process, 2 * process + 1], places
print("agreed")
"""


def test_two_processes_give_what_one_gives():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(i), port],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for process in processes:
        shown, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert "agreed" in shown
