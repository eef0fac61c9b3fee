import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import checks
from ncjax.checks import InputError
from ncjax.redunet import construction, layers
from ncjax.redunet.construction import (
    Ending,
    build,
    build_streamed,
    check_fits,
    memory_needed,
)
from ncjax.redunet.layers import LayerConfig, Monitor
from tests.redunet.reference import ALL_SHAPES, case

pytestmark = pytest.mark.usefixtures("x64")
CONFIG = LayerConfig(eps=0.4, step=0.3, sharpness=5.0)


def assert_same(one, other):
    """Features aside, whether operators and what was seen agree."""
    for a, b in ((one.monitor, other.monitor), (one.operators, other.operators)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12), a, b)


def dense(network):
    """With whole compression operators in place of factors."""
    operators = network.operators
    if not operators.factored:
        return network
    P = np.asarray(operators.compression)
    whole = np.eye(P.shape[-1]) - P.conj().swapaxes(-1, -2) @ P
    operators = dataclasses.replace(operators, compression=whole, factored=False)
    return dataclasses.replace(network, operators=operators)


@ALL_SHAPES
def test_a_few_samples_at_a_time_give_the_network_of_all(shape):
    spectra, labels, _ = case(shape)

    def batches(rows):
        there = jnp.asarray(rows < len(labels))
        values = spectra.values[:, jnp.where(there, rows, 0)]
        return spectra.replace(values * there[None, :, None].astype(values.dtype))

    whole = build(spectra, labels, CONFIG, Ending(3))
    streamed = build_streamed(batches, labels, 6, CONFIG, Ending(3))
    assert_same(dense(whole), streamed)


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
    count = len(ended.operators.shares)
    assert count == 6
    assert np.all(growth[: count - 1] >= 5e-3)
    assert growth[count - 1] < 5e-3
    np.testing.assert_allclose(ended.monitor.reduction, whole.monitor.reduction[: count + 1])
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


def test_too_large_a_step_is_seen_and_is_where_a_plateau_ends():
    spectra, labels, _ = case((9, 2))
    wild = dataclasses.replace(CONFIG, step=30.0)
    falls = build(spectra, labels, wild, Ending(10)).monitor.falls
    assert falls.size
    assert not build(spectra, labels, CONFIG, Ending(10)).monitor.falls.size
    ended = build(spectra, labels, wild, Ending(10, plateau=1e-9))
    assert len(ended.operators.shares) == falls[0] + 1
    assert ended.monitor.falls.tolist() == [falls[0]]


def test_rates_beyond_the_numbers_precision_are_refused():
    spectra, labels, _ = case((9, 2))
    coarse = jax.tree.map(lambda leaf: leaf.astype(np.float32), spectra)
    config = dataclasses.replace(CONFIG, eps=1e-20)
    for ending in (Ending(2), Ending(2, show=True), Ending(12, show=True)):
        with pytest.raises(InputError, match=r"`eps`: got.*layer 1.*float32.*enable_x64"):
            build(coarse, labels, config, ending)


def test_other_settings_of_the_layers_are_not_compiled_anew():
    spectra, labels, _ = case((9, 2))
    build(spectra, labels, CONFIG, Ending(2))
    before = construction._construct._cache_size()
    build(spectra, labels, LayerConfig(eps=0.5, step=0.1, sharpness=9.0), Ending(2))
    assert construction._construct._cache_size() == before


@pytest.mark.parametrize("ending", [Ending(100), Ending(2), Ending(11, show=True)])
@pytest.mark.parametrize("shape", [(5, 4, 3, 2), (9, 40)], ids=["dense", "factored"])
def test_the_formula_counts_what_a_construction_holds(shape, ending):
    spectra, labels, places = case(shape)
    needed = memory_needed(spectra, np.bincount(labels), ending)
    chunk = construction.CHUNK if ending.watched else ending.num_layers
    compiled = construction._construct.lower(
        spectra, places, jnp.asarray(labels), CONFIG, chunk
    ).compile()
    found = compiled.memory_analysis()
    held = found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes
    if ending.watched:  # and two chunks at a time: a built one and the one in work
        layer = sum(
            leaf.nbytes
            for leaf in jax.tree.leaves(build(spectra, labels, CONFIG, Ending(1)).operators)
        )
        held += (ending.num_layers + chunk) * layer
    assert 0.7 * held < needed < 1.8 * held


def test_memory_is_asked_for_before_anything_is_built(monkeypatch):
    spectra, labels, _ = case((5, 4, 3, 2))
    counts = np.bincount(labels)
    needed = memory_needed(spectra, counts, Ending(100))
    monkeypatch.setattr(checks, "_device_memory", lambda: needed - 1)
    with pytest.raises(InputError, match=r"`num_layers`: got 100 layer.*streamed=True"):
        check_fits(spectra, counts, Ending(100))
    check_fits(spectra, counts, Ending(2))
