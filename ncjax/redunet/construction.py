"""Whole networks from labelled samples: resident or in batches, to the end or to a plateau."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, parallel, progress
from ncjax.redunet.groups import places_of
from ncjax.redunet.layers import BLOCK_BYTES, LayerConfig, Monitor, construct, layer_in_blocks
from ncjax.redunet.operators import Operators, from_covariances, is_factored
from ncjax.redunet.rates import covariance
from ncjax.redunet.spectra import Spectra

CHUNK = 10
"""Layers that are built at a time where somebody watches, or a plateau may end it."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    """A network and how its construction went.

    Attributes:
        operators: of all layers, stacked.
        monitor: what was seen.
        features: of the samples behind the last layer; None where they are not at hand.
    """

    operators: Operators
    monitor: Monitor
    features: Spectra | None = None


@dataclasses.dataclass(frozen=True)
class Ending:
    """When construction ends, and whether it shows its progress.

    Attributes:
        num_layers: L, at most.
        plateau: ends once a layer adds less than this share to Delta R; None for never.
        show: a progress bar.
    """

    num_layers: int
    plateau: float | None = None
    show: bool = False

    @property
    def watched(self) -> bool:
        """Whether layers are built some at a time."""
        return self.show or self.plateau is not None


@parallel.on_one_blas_thread
def build(spectra: Spectra, labels: np.ndarray, config: LayerConfig, ending: Ending) -> Network:
    """Builds a network from samples that are all on the device.

    Args:
        spectra: of the samples, normalised.
        labels: class indices `[N]`, every class with a sample.
        config: of all layers.
        ending: when to end.

    Raises:
        InputError: rates that are not finite.
    """
    places, targets = jnp.asarray(places_of(labels, int(labels.max()) + 1)), jnp.asarray(labels)
    chunk = min(CHUNK, ending.num_layers) if ending.watched else ending.num_layers
    if chunk == ending.num_layers:
        features, operators, monitor = _construct(spectra, places, targets, config, chunk)
        check_rates(monitor)
        return _cut(Network(operators, monitor, features), ending)

    def parts() -> Iterator[tuple[Operators, Monitor]]:
        features = spectra
        while True:
            features, *part = _construct(features, places, targets, config, chunk)
            yield part

    return _collected(parts(), chunk, ending)


@parallel.on_one_blas_thread
def build_streamed(
    batches: Callable[[np.ndarray], Spectra],
    labels: np.ndarray,
    batch_size: int,
    config: LayerConfig,
    ending: Ending,
) -> Network:
    """Builds a network from samples of which one batch is on the device at a time.

    Features between layers are in a temporary file, which the system keeps in memory where there is
    room. A batch has about equally many samples of each class.

    Args:
        batches: normalised spectra of the samples at these rows; zeros for row number N.
        labels: class indices `[N]`, every class with a sample.
        batch_size: samples, about.
        config: of all layers.
        ending: when to end.

    Raises:
        InputError: rates that are not finite.
    """
    K = int(labels.max()) + 1
    places = places_of(labels, K)
    each = max(1, batch_size // K)
    places = np.pad(places, [(0, 0), (0, -places.shape[1] % each)], constant_values=len(labels))
    portions = places.reshape(K, -1, each).swapaxes(0, 1)
    with tempfile.TemporaryFile() as file:
        spectra = batches(portions[0].ravel())
        counts = jnp.asarray(np.bincount(labels), spectra.weights.dtype)
        shape = (len(portions), *spectra.values.shape)
        stored, sums = np.memmap(file, spectra.values.dtype, "w+", shape=shape), 0
        for number, portion in enumerate(portions):
            values = batches(portion.ravel()).values
            stored[number], sums = values, sums + _class_sums(values, K)

        def parts() -> Iterator[tuple[Operators, Monitor]]:
            nonlocal sums
            while True:
                built = _from_covariances(sums, counts, spectra.weights, config.eps)
                sums, right = 0, 0
                for number, portion in enumerate(portions):
                    one = spectra.replace(jnp.asarray(stored[number]))
                    there = jnp.asarray(portion < len(labels))
                    values, new, agreed = _advance(built.operators, one, there, config)
                    stored[number], sums, right = values, sums + new, right + agreed
                seen = Monitor(built.rate, built.class_rate, right / len(labels))
                yield jax.tree.map(lambda leaf: leaf[None], (built.operators, seen))

        return _collected(parts(), 1, ending)


def memory_needed(
    spectra: Spectra, counts: np.ndarray, ending: Ending, *, batch_size: int | None = None
) -> int:
    """Bytes of the arrays of a construction: operators, features, compressed features of a block.

    With s bytes a number, N samples of C channels at F frequencies, K classes, and r = C rows an
    operator (or the samples of the largest class, if they are at most C/2):

    s F (L C (C + K r) + 3 C (C + K r) + 4 N C) + 3 min(256 MiB, s K F N C)

    Where layers are built some at a time, L counts twice as many of them besides. What JAX itself
    takes comes on top.

    Args:
        spectra: of the samples, or their shapes and types.
        counts: samples of each class.
        ending: with L.
        batch_size: samples at a time, without factors, in `build_streamed`; all of them if None.
    """
    F, N, C = spectra.values.shape
    size, K = spectra.values.dtype.itemsize, len(counts)
    N = N if batch_size is None else batch_size
    factored = batch_size is None and is_factored(int(counts.max()), C)
    rows = int(counts.max()) if factored else C
    layers = ending.num_layers
    if ending.watched and layers > CHUNK:
        layers += 2 * CHUNK
    numbers = F * ((layers + 3) * C * (C + K * rows) + 4 * N * C)
    return size * numbers + 3 * min(BLOCK_BYTES, size * K * F * N * C)


def check_fits(
    spectra: Spectra, counts: np.ndarray, ending: Ending, *, batch_size: int | None = None
) -> None:
    """Refuses what does not fit in memory, before any of it is built.

    Args:
        spectra: of the samples, or their shapes and types.
        counts: samples of each class.
        ending: with the number of layers.
        batch_size: see `memory_needed`.

    Raises:
        InputError: with the memory that a layer takes.
    """
    needed = memory_needed(spectra, counts, ending, batch_size=batch_size)
    F, N, C = spectra.values.shape
    N = N if batch_size is None else batch_size
    L = ending.num_layers
    what = f"{L} layer(s) for {N:,} samples of {F} x {C} numbers in {len(counts)} classes"
    more = memory_needed(
        spectra, counts, dataclasses.replace(ending, num_layers=L + 1), batch_size=batch_size
    )
    each = (more - needed) / 2**30
    remedy = f"fewer layers ({each:.2g} GiB each), or smaller features"
    if batch_size is None:
        remedy += ", or streamed=True for fewer samples at a time"
    checks.check_memory("num_layers", what, needed, remedy)


def check_rates(monitor: Monitor) -> None:
    """Refuses a construction whose rates are not finite.

    Raises:
        InputError: with the first such layer.
    """
    rates = np.stack([monitor.rate, monitor.class_rate])
    bad = np.flatnonzero(~np.isfinite(rates).all(0))
    if len(bad):
        dtype = rates.dtype
        got = f"one with which the rates of layer {bad[0] + 1} are not finite in {dtype}"
        accepted = "large enough for step * d / (N eps^2) <= 2, so that rounding does not grow"
        remedy = "Take a larger eps, a smaller step, more samples, or float64 (`jax.enable_x64`)."
        raise checks.reject("eps", got, accepted, remedy)


def _collected(parts: Iterator[tuple[Operators, Monitor]], chunk: int, ending: Ending) -> Network:
    """Takes parts of a network until it ends."""
    L, filled, stacked = ending.num_layers, 0, None
    with progress.bar(total=L, desc="layers", unit=" layers", show=ending.show) as bar:
        while filled < L:
            part = tuple(next(parts))
            if stacked is None:
                stacked = jax.tree.map(lambda a: np.empty((L, *a.shape[1:]), a.dtype), part)
            _put(stacked, part, filled)
            bar.update(min(chunk, L - filled))
            filled = min(filled + chunk, L)
            network = Network(*_first(stacked, filled))
            check_rates(network.monitor)
            if ending.plateau is not None and network.monitor.settled(ending.plateau):
                break
    return _cut(network, ending)


def _put(stacked: Any, part: Any, start: int) -> None:
    """Copies the layers of a part behind those before, as many as there is room for."""

    def copy(target: np.ndarray, source: jax.Array) -> None:
        target[start : start + len(source)] = np.asarray(source)[: len(target) - start]

    jax.tree.map(copy, stacked, part)


def _first(stacked: Any, count: int) -> Any:
    return jax.tree.map(lambda a: a[:count], stacked)


def _cut(network: Network, ending: Ending) -> Network:
    """Without the layers beyond the plateau; the monitor sees what the last one gives out."""
    settled = None if ending.plateau is None else network.monitor.settled(ending.plateau)
    if settled is None:
        return network
    return Network(_first(network.operators, settled), _first(network.monitor, settled + 1))


def _class_sums(values: jax.Array, num_classes: int) -> jax.Array:
    """Covariances of the classes, of which a batch has equally many rows one after the other."""
    F, _, C = values.shape
    return jax.vmap(covariance)(values.reshape(F, num_classes, -1, C).swapaxes(0, 1))


def _advance_batch(
    operators: Operators, spectra: Spectra, there: jax.Array, config: LayerConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A batch behind a layer, its covariances, and how many samples the layer assigned rightly."""
    after, scores = layer_in_blocks(operators, spectra, config)
    K = len(operators.shares)
    own = jnp.arange(K)[:, None] == scores.argmax(0).reshape(K, -1)
    right = (own & there).sum(dtype=spectra.weights.dtype)
    return after.values, _class_sums(after.values, K), right


_construct = jax.jit(construct, static_argnums=4)
_advance = jax.jit(_advance_batch)
_from_covariances = jax.jit(from_covariances)
