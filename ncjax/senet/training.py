"""Training of a self-expressive network, until its coefficients are close to the exact ones.

The keys of all points cost most of a step, whatever the number of queries: so a step here takes
many queries, or all, and far fewer steps are needed. Every so often the coefficients of some points
are measured against the elastic net's own solution, which says whether training has converged.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ncjax import checks, parallel, progress
from ncjax.senet.elastic_net import ElasticNet, Optimality, exact_coefficients, optimality
from ncjax.senet.model import (
    SelfExpressiveNet,
    coefficients,
    initial_parameters,
    standardised,
)
from ncjax.senet.objective import (
    Points,
    Problem,
    batch_of,
    blocks_of,
    two_pass_value_and_gradient,
    value_and_gradient,
)
from ncjax.types import AnyArray

Optimizer = Literal["muon", "adam"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is trained.

    Attributes:
        steps: at most; the learning rate falls along half a cosine to zero.
        batch_size: queries a step; 100 in the paper.
        block: keys at a time in two passes, which hold no more than a block; all of them in one
            graph if there are no more points than that.
        optimizer: "muon" (orthogonalised momentum) or "adam" (the paper's).
        learning_rate: of either; 1e-3 for Adam in the paper.
        clip: norm that gradients are clipped to (1e-3 in the official code), or None.
        sampled: points whose coefficients are measured.
        every: steps between measurements.
        tolerance: training ends when the mean objective of the sampled points exceeds its minimum
            by no more than this share of it.
        seed: of the start, the batches and the sample.
        verbose: a progress bar.
    """

    steps: int = 1000
    batch_size: int = 2000
    block: int = 8192
    optimizer: Optimizer = "muon"
    learning_rate: float = 0.03
    clip: float | None = None
    sampled: int = 10
    every: int = 50
    tolerance: float = 0.0
    seed: int = 0
    verbose: bool = False

    def check(self) -> None:
        """Refuses what can't be meant.

        Raises:
            InputError: naming the setting.
        """
        for name in ("steps", "batch_size", "block", "sampled", "every"):
            checks.check_count(name, getattr(self, name), 1)
        checks.check_choice("optimizer", self.optimizer, ("muon", "adam"))
        checks.check_range("learning_rate", self.learning_rate, 0.0, closed=False)
        checks.check_range("tolerance", self.tolerance, 0.0)
        if self.clip is not None:
            checks.check_range("clip", self.clip, 0.0, closed=False)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network and how its training went.

    Attributes:
        params: of the network.
        mean: of the points it was trained on, `[D]`, which its inputs are taken from.
        losses: mean objective of the batch of each step, `[steps taken]`.
        measured: optimality of the sampled points, by the number of steps before it.
        converged: whether the tolerance was met.
    """

    params: Any
    mean: np.ndarray
    losses: np.ndarray
    measured: dict[int, Optimality]
    converged: bool


def train(
    model: SelfExpressiveNet,
    points: np.ndarray,
    elastic_net: ElasticNet,
    config: TrainConfig,
    start: Trained | None = None,
) -> Trained:
    """Trains a network to write each point in all others.

    Blocks of keys are shared by all devices, those of other processes included: there each process
    makes the same call with the same points.

    Args:
        model: the network.
        points: at unit length, float32 `[N, D]`.
        elastic_net: the weights.
        config: how.
        start: a network to go on from, with its own mean.

    Returns:
        The network after its last step, and what was measured on the way.

    Raises:
        InputError: unfit settings or points, a start of another shape, or training diverged.
    """
    _check(points, elastic_net, config)
    N, D = points.shape
    params = initial_parameters(model, jax.random.key(config.seed), D, points.dtype)
    mean = points.mean(0)
    if start is not None:
        checks.check_like("start", start.params, "model", params)
        params, mean = start.params, start.mean
    devices = jax.devices()
    blocks = blocks_of(points, min(config.block, -(-N // len(devices))), len(devices))
    resident = len(devices) == 1 and len(blocks.rows) == 1
    some_steps = parallel.across_devices(
        _some_steps(model, elastic_net, _compiled(config), resident),
        in_axes=(None, None, None, 0, None),
        out_axes=(None, None, None),
        devices=devices,
    )
    shares = _shares(blocks, devices)
    measure = _measure(model, points, blocks, mean, elastic_net, config)
    params = parallel.replicated(params, devices)  # where steps leave them: one measuring program
    state, losses, measured = _optimizer(config).init(params), [], {0: measure(params)}
    taken, generator = 0, np.random.default_rng(config.seed)
    with progress.bar(total=config.steps, desc="steps", show=config.verbose) as bar:
        while taken < config.steps and measured[taken].excess > config.tolerance:
            count = min(config.every, config.steps - taken)
            rows = _batches(generator, N, count, config.batch_size)
            params, state, values = some_steps(params, state, mean, shares, rows)
            losses.append(np.asarray(values))
            taken += count
            measured[taken] = measure(params)
            _check_converging(measured[taken], config)
            bar.update(count)
            bar.set_postfix(excess=f"{measured[taken].excess:.3g}")
    converged = measured[taken].excess <= config.tolerance
    losses = np.concatenate(losses) if losses else np.empty(0)
    return Trained(jax.device_get(params), np.asarray(mean), losses, measured, converged)


def _check(points: np.ndarray, elastic_net: ElasticNet, config: TrainConfig) -> None:
    config.check()
    elastic_net.check()
    checks.check_shape("points", points, (None, None), "[N, D]")
    checks.check_finite("points", points)
    if len(points) < 2:
        raise checks.reject("points", f"{len(points)} of them", "at least 2")


def _check_converging(found: Optimality, config: TrainConfig) -> None:
    if not np.isfinite(found.excess):
        accepted = "so small that training does not diverge"
        raise checks.reject("learning_rate", config.learning_rate, accepted, "Lower it.")


def _compiled(config: TrainConfig) -> TrainConfig:
    """Only what compiled steps depend on, so that others share them."""
    kept = ("optimizer", "learning_rate", "steps", "clip")
    return TrainConfig(**{name: getattr(config, name) for name in kept})


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    found = optax.adam(rate) if config.optimizer == "adam" else optax.contrib.muon(rate)
    if config.clip is None:
        return found
    return optax.chain(optax.clip_by_global_norm(config.clip), found)


def _shares(blocks: Points, devices: Sequence[jax.Device]) -> Points:
    """The blocks of this process's devices, `[devices, blocks, M, ...]`."""
    ours = [device.process_index == jax.process_index() for device in devices]
    return jax.tree.map(lambda a: a.reshape(len(devices), -1, *a.shape[1:])[ours], blocks)


def _batches(generator: np.random.Generator, N: int, count: int, size: int) -> np.ndarray:
    """Row numbers of batches of different points, `[count, B]`; all where there are no more."""
    if size >= N:
        return np.tile(np.arange(N, dtype=np.int32), (count, 1))
    chosen = [generator.choice(N, size, replace=False) for _ in range(count)]
    return np.stack(chosen).astype(np.int32)


@functools.lru_cache(maxsize=16)
def _some_steps(
    model: SelfExpressiveNet, elastic_net: ElasticNet, config: TrainConfig, resident: bool
) -> Any:
    """The work of one device: a step for each batch, on its share of the keys."""
    optimizer = _optimizer(config)

    def work(params: Any, state: Any, mean: jax.Array, blocks: Points, rows: jax.Array) -> tuple:
        problem = Problem(blocks, mean, elastic_net)

        def step(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
            params, state = carry
            batch = batch_of(rows, blocks, parallel.AXIS)
            if resident:
                value, slopes = value_and_gradient(model, params, batch, problem)
            else:
                value, slopes = two_pass_value_and_gradient(
                    model, params, batch, problem, parallel.AXIS
                )
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(slopes, state, params)
                params = optax.apply_updates(params, updates)
            params = params | {"offset": jnp.maximum(params["offset"], 0)}
            return (params, state), value

        (params, state), values = jax.lax.scan(step, (params, state), rows)
        return params, state, values

    return work


def _measure(
    model: SelfExpressiveNet,
    points: np.ndarray,
    blocks: Points,
    mean: np.ndarray,
    elastic_net: ElasticNet,
    config: TrainConfig,
) -> Callable[[Any], Optimality]:
    """The optimality of some points' coefficients, as a function of the parameters."""
    count = min(config.sampled, len(points))
    rows = np.random.default_rng([config.seed, 1]).choice(len(points), count, replace=False)
    exact = exact_coefficients(elastic_net, points, rows).astype(points.dtype)

    return lambda params: jax.device_get(
        _measured(model, elastic_net, params, mean, blocks, points[rows], rows, exact)
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(
    model: SelfExpressiveNet,
    elastic_net: ElasticNet,
    params: Any,
    mean: AnyArray,
    blocks: Points,
    points: AnyArray,
    rows: AnyArray,
    exact: AnyArray,
) -> Optimality:
    """Of points by their row numbers; keys are embedded a block at a time."""
    queries = model.apply({"params": params}, standardised(points, mean), method="queries")

    def on_block(keys: AnyArray) -> jax.Array:
        embedded = model.apply({"params": params}, standardised(keys, mean), method="keys")
        return coefficients(queries, embedded, params["offset"])

    N = exact.shape[1]
    found = jnp.concatenate(jax.lax.map(on_block, blocks.points), axis=1)[:, :N]
    own = jnp.asarray(rows)[:, None] == jnp.arange(N)[None, :]
    keys = jnp.concatenate(blocks.points)[:N]
    return optimality(elastic_net, points, keys, jnp.where(own, 0, found), exact, own)
