"""How a run meets noisy labels: what it keeps of each sample, and the objective that goes with it.

What is kept is a pytree of arrays `[N, ...]`; a step sees and updates the rows of its batch alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, losses, sop
from ncjax.parallel import AXIS
from ncjax.sop import noise, peers
from ncjax.types import AnyArray

Name = Literal["standard", "sop", "elr", "forward"]
NAMES: tuple[str, ...] = ("standard", "sop", "elr", "forward")


@dataclasses.dataclass(frozen=True)
class SOPConfig:
    """Settings of SOP (`ncjax.sop`).

    Attributes:
        lr_u: learning rate of u; one that suits batch size and epochs if None (`sop.rates`).
        lr_v: of v, likewise.
        u_gradient: "code" or "paper" (`sop.loss`).
        consistency: weight of SOP+'s term between two views, 0.9 there.
        balance: weight of its term for even classes, 0.1 there.
        inert: train even where v can't switch on in as many epochs.
    """

    lr_u: float | None = None
    lr_v: float | None = None
    u_gradient: noise.Gradient = "code"
    consistency: float = 0.0
    balance: float = 0.0
    inert: bool = False

    def __post_init__(self) -> None:
        checks.check_choice("u_gradient", self.u_gradient, noise.GRADIENTS)
        for name in ("lr_u", "lr_v"):
            if getattr(self, name) is not None:
                checks.check_range(name, getattr(self, name), 0.0, closed=False)
        for name in ("consistency", "balance"):
            checks.check_range(name, getattr(self, name), 0.0)


@dataclasses.dataclass(frozen=True)
class ELRConfig:
    """Settings of early-learning regularisation (`ncjax.sop.peers`).

    Attributes:
        weight: lambda; 3 for CIFAR-10, as we remember its code.
        memory: beta; 0.7 there.
    """

    weight: float = 3.0
    memory: float = 0.7

    def __post_init__(self) -> None:
        checks.check_range("weight", self.weight, 0.0)
        checks.check_range("memory", self.memory, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class FreeConfig:
    """Settings of "free" adversarial training (Shafahi et al. 2019, 1904.12843).

    Each batch is trained on so many times in a row, with a perturbation of the inputs that every
    one of these steps moves along the sign of its gradient, and that the next batch starts from.

    Attributes:
        replays: of each batch; 0 for training without attacks.
        epsilon: largest change of an input, and the size of its steps; inputs are between 0 and 1.
    """

    replays: int = 0
    epsilon: float = 8 / 255

    def __post_init__(self) -> None:
        checks.check_count("replays", self.replays, 0)
        checks.check_range("epsilon", self.epsilon, 0.0)


@dataclasses.dataclass(frozen=True)
class Method:
    """What a training step calls.

    Attributes:
        views: of each image: the plain one, and a strongly augmented one if 2.
        init: `(key, numbers [N], K) -> samples`, what is kept of all samples at the start.
        objective: `(logits [views, B, K], labels [B], own) -> (value, found)` of a batch and the
            rows that are its own.
        updated: `(own, slopes, found) -> own`, with the gradient of the whole batch's mean by
            `own`.
    """

    views: int
    init: Callable[[jax.Array, np.ndarray, int], Any]
    objective: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
    updated: Callable[[Any, Any, Any], Any]


def _nothing(*_: Any) -> None:
    return None


def standard(loss: losses.Loss) -> Method:
    """The mean of a loss; nothing is kept."""
    return Method(1, _nothing, lambda z, y, _: (loss(z[0], y).mean(), None), _nothing)


def sparse_over_parameterisation(config: SOPConfig, rates: sop.Rates) -> Method:
    """SOP, and SOP+ where its terms have weights."""

    def objective(logits: jax.Array, labels: jax.Array, own: sop.Noise) -> tuple[jax.Array, None]:
        value = sop.loss(logits[0], labels, own, u_gradient=config.u_gradient).mean()
        if config.balance:
            share = noise.corrected(logits[0], labels, own).mean(0)
            value += config.balance * noise.class_balance(jax.lax.pmean(share, AXIS))
        if config.consistency:
            value += config.consistency * noise.consistency(*logits).mean()
        return value, None

    return Method(
        views=2 if config.consistency else 1,
        init=lambda key, numbers, K: sop.init(key, int(numbers.max()) + 1, K).rows(numbers),
        objective=objective,
        updated=lambda own, slopes, _: noise.updated(own, slopes, rates.u, rates.v),
    )


def early_learning(config: ELRConfig) -> Method:
    """ELR: running means of the predictions are kept."""

    def objective(
        logits: jax.Array, labels: jax.Array, own: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        targets = peers.early_learning_targets(own, logits[0], config.memory)
        penalty = peers.early_learning_penalty(logits[0], targets)
        value = losses.cross_entropy(logits[0], labels) + config.weight * penalty
        return value.mean(), targets

    return Method(
        views=1,
        init=lambda _, numbers, K: jnp.zeros((len(numbers), K), jnp.float32),
        objective=objective,
        updated=lambda _own, _slopes, found: found,
    )


def forward(matrix: np.ndarray) -> Method:
    """Forward correction with a known confusion."""

    def loss(logits: AnyArray, labels: AnyArray) -> jax.Array:
        return peers.forward_corrected(logits, labels, matrix)

    return standard(loss)
