import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import checks
from ncjax.checks import InputError
from ncjax.redunet import construction, layers
from ncjax.redunet.construction import Ending, build, build_streamed, memory_needed
from ncjax.redunet.layers import LayerConfig, Monitor
from tests.redunet.reference import ALL_SHAPES, case

pytestmark = pytest.mark.usefixtures("x64")
CONFIG = LayerConfig(eps=0.4, step=0.3, sharpness=5.0)


def assert_same(one, other):
    """Features aside, whether operators and what was seen agree."""
    assert len(one.operators.shares) == len(other.operators.shares)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), one.monitor, other.monitor
    )


@ALL_SHAPES
def test_a_few_samples_at_a_time_give_the_network_of_all(shape):
    spectra, labels, _ = case(shape)

    def batches(rows):
        there = jnp.asarray(rows < len(labels))
        values = spectra.values[:, jnp.where(there, rows, 0)]
        return spectra.replace(values * there[None, :, None].astype(values.dtype))

    whole = build(spectra, labels, CONFIG, Ending(3))
    streamed = build_streamed(batches, labels, 6, CONFIG, Ending(3))
    assert_same(whole, streamed)
    np.testing.assert_allclose(streamed.operators.expansion, whole.operators.expansion, atol=1e-12)


def test_samples_in_blocks_pass_a_layer_as_all_at_once(monkeypatch):
    spectra, labels, _ = case((9, 2))
    whole = build(spectra, labels, CONFIG, Ending(2))
    monkeypatch.setattr(layers, "BLOCK_BYTES", 4 * 3 * 2 * 8)  # four samples
    operators = jax.tree.map(lambda leaf: leaf[0], whole.operators)
    after, scores = layers.layer_in_blocks(operators, spectra, CONFIG)
    expected, all_scores = layers.layer(operators, spectra, CONFIG)
    np.testing.assert_allclose(after.values, expected.values, rtol=1e-12)
    np.testing.assert_allclose(scores, all_scores, rtol=1e-12)


def test_construction_ends_on_the_plateau(monkeypatch):
    spectra, labels, _ = case((7, 9))
    monkeypatch.setattr(construction, "CHUNK", 4)
    whole = build(spectra, labels, CONFIG, Ending(10))
    growth = np.diff(whole.monitor.reduction) / whole.monitor.reduction[:-1]
    ended = build(spectra, labels, CONFIG, Ending(10, plateau=5e-3))
    count = len(ended.monitor.reduction)
    assert count == 6
    assert np.all(growth[: count - 1] >= 5e-3)
    assert growth[count - 1] < 5e-3
    np.testing.assert_allclose(ended.operators.expansion, whole.operators.expansion[:count])
    watched = build(spectra, labels, CONFIG, Ending(10, show=True))
    assert_same(watched, whole)


def test_the_monitor_says_where_the_rate_reduction_falls():
    rate = jnp.array([3.0, 4.0, 4.0, 5.0])
    monitor = Monitor(rate, jnp.array([1.0, 2.5, 2.0, 3.2]), None)
    assert monitor.falls.tolist() == [0, 2]
    assert monitor.settled(0.5) == 1
    steady = dataclasses.replace(monitor, class_rate=jnp.array([1.0, 1.5, 1.0, 1.0]))
    assert steady.falls.size == 0
    assert steady.settled(0.1) is None


def test_too_large_a_step_is_seen():
    spectra, labels, _ = case((9, 2))
    wild = build(spectra, labels, dataclasses.replace(CONFIG, step=30.0), Ending(10))
    assert wild.monitor.falls.size
    assert not build(spectra, labels, CONFIG, Ending(10)).monitor.falls.size


def test_memory_is_asked_for_before_anything_is_built(monkeypatch):
    spectra, labels, _ = case((5, 4, 3, 2))
    counts = np.bincount(labels)
    needed = memory_needed(spectra, counts, 100)
    operators = jax.eval_shape(lambda s: build(s, labels, CONFIG, Ending(100)).operators, spectra)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(operators))
    assert held < needed < 1.5 * held
    monkeypatch.setattr(checks, "_device_memory", lambda: needed - 1)
    with pytest.raises(InputError, match=r"`num_layers`: got 100 layer.*streamed=True"):
        build(spectra, labels, CONFIG, Ending(100))
    build(spectra, labels, CONFIG, Ending(2))
