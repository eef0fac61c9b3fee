"""An MLP that learns tasks one after the other: fine-tuning, EWC, experience replay.

Elastic weight consolidation (1612.00796) adds, after each task, the diagonal of its Fisher
information at the parameters found, from 2,000 samples with labels that the network draws. Replay
keeps a buffer with equal room for every class seen, and half of each batch is from it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.splits import unit
from ncjax import losses

BATCH = 100


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a learner.

    Attributes:
        inputs: d.
        classes: K, all of them from the beginning.
        steps: of Adam, a task.
        rate: learning rate.
        strength: of EWC.
        replayed: samples that the buffer has room for.
        width: of the two hidden layers.
    """

    inputs: int
    classes: int
    steps: int
    rate: float
    strength: float = 0.0
    replayed: int = 0
    width: int = 256


class _MLP(nn.Module):
    classes: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = 10 * x  # samples have unit length
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.classes)(x)


class Learner:
    """The MLP and what it keeps between tasks."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.model = _MLP(settings.classes, settings.width)
        self.rng = np.random.default_rng(seed)
        self.params = self.model.init(jax.random.key(seed), jnp.zeros((1, settings.inputs)))
        self.anchors: list[tuple[Any, Any]] = []
        self.buffer = np.empty((0, settings.inputs), np.uint8), np.empty(0, np.int64)

    def learn(self, x: np.ndarray, y: np.ndarray) -> None:
        """Trains on a task, then adds to what is kept."""
        s = self.settings
        old_x, old_y = self.buffer
        mixed = len(old_y) > 0
        rows = self.rng.integers(0, len(y), (s.steps, BATCH // 2 if mixed else BATCH))
        batches = (x[rows], y[rows])
        if mixed:
            again = self.rng.integers(0, len(old_y), (s.steps, BATCH // 2))
            old = unit(old_x[again].reshape(-1, s.inputs).astype(np.float32))
            pairs = zip(batches, (old.reshape(*again.shape, -1), old_y[again]), strict=True)
            batches = tuple(np.concatenate(pair, 1) for pair in pairs)
        numbers = jnp.float32(s.rate), jnp.float32(s.strength)
        self.params = _all_steps(self.model, self.params, self._penalty(), batches, *numbers)
        if s.strength:
            key = jax.random.key(len(self.anchors))
            information = _fisher(self.model, self.params, x[:2000], key)
            self.anchors.append((self.params, information))
        if s.replayed:
            self._remember(x, y)

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        """Accuracy, over all classes."""
        return float((np.asarray(_logits(self.model, self.params, x)).argmax(1) == y).mean())

    def kept_bytes(self) -> int:
        """Of what is kept besides the network: samples at a byte a pixel, or EWC's two arrays."""
        held = jax.tree.leaves(self._penalty()) if self.settings.strength else []
        return self.buffer[0].size + sum(leaf.nbytes for leaf in held)

    def _penalty(self) -> tuple[Any, Any]:
        """The sum of all tasks' quadratics as one: its centre times weight, and its weight."""
        zeros = jax.tree.map(jnp.zeros_like, self.params)
        centre, weight = zeros, zeros
        for params, fisher in self.anchors:
            weight = jax.tree.map(jnp.add, weight, fisher)
            centre = jax.tree.map(lambda c, p, f: c + p * f, centre, params, fisher)
        return centre, weight

    def _remember(self, x: np.ndarray, y: np.ndarray) -> None:
        """Samples of all classes seen, as many of each as there is room for, a byte a pixel."""
        levels = np.round(255 * x / x.max(1, keepdims=True)).astype(np.uint8)
        x, y = (np.concatenate(pair) for pair in zip(self.buffer, (levels, y), strict=True))
        each = self.settings.replayed // len(np.unique(y))
        rows = np.concatenate(
            [self.rng.permutation(np.flatnonzero(y == k))[:each] for k in np.unique(y)]
        )
        self.buffer = x[rows], y[rows]


@functools.partial(jax.jit, static_argnums=0)
def _logits(model: nn.Module, params: Any, x: jax.Array) -> jax.Array:
    return model.apply(params, x)


@functools.partial(jax.jit, static_argnums=0)
def _all_steps(
    model: nn.Module,
    params: Any,
    penalty: tuple[Any, Any],
    batches: tuple[jax.Array, jax.Array],
    rate: jax.Array,
    strength: jax.Array,
) -> Any:
    """The parameters after a step of Adam for each batch."""
    optimizer = optax.adam(rate)

    def loss(params: Any, batch: tuple) -> jax.Array:
        fit = losses.cross_entropy(model.apply(params, batch[0]), batch[1]).mean()
        parts = jax.tree.map(lambda p, c, w: (w * p**2 / 2 - c * p).sum(), params, *penalty)
        return fit + strength * sum(jax.tree.leaves(parts))

    def step(state: tuple, batch: tuple) -> tuple[tuple, None]:
        params, inner = state
        updates, inner = optimizer.update(jax.grad(loss)(params, batch), inner)
        return (optax.apply_updates(params, updates), inner), None

    return jax.lax.scan(step, (params, optimizer.init(params)), batches)[0][0]


@functools.partial(jax.jit, static_argnums=0)
def _fisher(model: nn.Module, params: Any, x: jax.Array, key: jax.Array) -> Any:
    """Mean squared gradients of the log-likelihood, of labels drawn from the model itself."""
    y = jax.random.categorical(key, model.apply(params, x))

    def loss(params: Any, one: jax.Array, label: jax.Array) -> jax.Array:
        return losses.cross_entropy(model.apply(params, one[None]), label[None])[0]

    def add(total: Any, pair: tuple) -> tuple[Any, None]:
        slope = jax.grad(loss)(params, *pair)
        return jax.tree.map(lambda t, g: t + g**2 / len(y), total, slope), None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (x, y))[0]
