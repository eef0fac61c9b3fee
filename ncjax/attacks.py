"""Small changes of inputs that raise the loss most, and what accuracy is left under them.

FGSM (1412.6572) takes one step along the sign of the gradient; PGD (1706.06083) many smaller ones
from a random start, each followed by a projection onto changes of at most epsilon and onto what
inputs may be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from ncjax import checks, progress
from ncjax.types import AnyArray

LossOf = Callable[[Any, Any], jax.Array]
"""`(inputs, labels) -> [B]`, each value of its own input alone."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """Settings of PGD; of FGSM with one step as large as epsilon from no random start.

    Attributes:
        epsilon: largest change of an input value, in units of inputs.
        step: size of a step.
        steps: of each start.
        restarts: random starts, of which the worst counts; 0: one start at the inputs themselves.
        low: least value of an input.
        high: largest.
    """

    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    restarts: int = 1
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epsilon", "step"):
            checks.check_range(name, getattr(self, name), 0.0)
        checks.check_count("steps", self.steps, 1)
        checks.check_count("restarts", self.restarts, 0)
        if not self.low < self.high:
            raise checks.reject("low", self.low, f"less than `high`, {self.high}")


def fgsm(epsilon: float = 8 / 255, low: float = 0.0, high: float = 1.0) -> Attack:
    """The fast gradient sign method, as an `Attack`."""
    return Attack(epsilon, epsilon, 1, 0, low, high)


PGD = Attack(steps=20)
"""The evaluation of 2103.00673: 20 steps of 2/255 within 8/255."""


def perturbed(
    loss: LossOf,
    x: Float[AnyArray, "*batch"],
    labels: Integer[AnyArray, " B"],
    attack: Attack,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "*batch"]:
    """Inputs changed so that each one's loss is as large as the attack can make it.

    Args:
        loss: to raise; one value for each input.
        x: inputs `[B, ...]`, within the attack's bounds.
        labels: of them.
        attack: settings.
        key: of random starts; `jax.random.key(0)` if None.
    """
    x = jnp.asarray(x)
    key = jax.random.key(0) if key is None else key

    def projected(z: jax.Array) -> jax.Array:
        near = jnp.clip(z, x - attack.epsilon, x + attack.epsilon)
        return jnp.clip(near, attack.low, attack.high)

    def rise(_: jax.Array, z: jax.Array) -> jax.Array:
        slope = jax.grad(lambda z: loss(z, labels).sum())(z)
        return projected(z + attack.step * jnp.sign(slope))

    def attempt(best: tuple, start: jax.Array) -> tuple[tuple, None]:
        z = jax.lax.fori_loop(0, attack.steps, rise, start)
        value = loss(z, labels)
        better = value > best[1]
        over = better.reshape(-1, *(1,) * (x.ndim - 1))
        return (jnp.where(over, z, best[0]), jnp.where(better, value, best[1])), None

    best = x, loss(x, labels)
    if not attack.restarts:
        return attempt(best, x)[0][0]

    def from_key(best: tuple, key: jax.Array) -> tuple[tuple, None]:
        moved = jax.random.uniform(key, x.shape, x.dtype, -attack.epsilon, attack.epsilon)
        return attempt(best, projected(x + moved))

    return jax.lax.scan(from_key, best, jax.random.split(key, attack.restarts))[0][0]


def robust_accuracy(
    logits: Callable[[Any], jax.Array],
    loss: Callable[[Any, Any], jax.Array],
    x: Float[AnyArray, "N ..."],
    labels: Integer[AnyArray, " N"],
    attack: Attack,
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> float:
    """The share of inputs that are classified right after the attack.

    Args:
        logits: of inputs.
        loss: `(logits, labels) -> [B]`, which the attack raises.
        x: inputs, within the attack's bounds.
        labels: of them.
        attack: settings.
        batch_size: inputs at once.
        seed: of random starts.

    Raises:
        InputError: inputs out of bounds, or labels that do not fit.
    """
    x, labels = np.asarray(x), np.asarray(labels)
    checks.check_shape("labels", labels, (len(x),), "[N], a label for each input")
    if x.min() < attack.low or x.max() > attack.high:
        got = f"values from {x.min():g} to {x.max():g}"
        raise checks.reject("x", got, f"from {attack.low:g} to {attack.high:g}, as of the attack")

    @jax.jit
    def right(x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        changed = perturbed(lambda z, y: loss(logits(z), y), x, y, attack, key)
        return logits(changed).argmax(-1) == y

    key, found = jax.random.key(seed), []
    for start in progress.bar(range(0, len(x), batch_size), desc="attack", unit=" batches"):
        rows = np.minimum(np.arange(start, start + batch_size), len(x) - 1)
        found.append(np.asarray(right(x[rows], labels[rows], jax.random.fold_in(key, start))))
    return float(np.concatenate(found)[: len(x)].mean())
