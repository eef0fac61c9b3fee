"""Runs that train side by side: what may differ between them, as numbers that may be traced."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, losses
from ncjax.training.config import TrainConfig
from ncjax.types import AnyArray

VARIED = ("loss", "hyperparameters", "learning_rate", "weight_decay", "feature_decay", "seed")
"""Settings in which the members of an ensemble may differ."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """One run's numbers.

    Attributes:
        learning_rate: at the start.
        weight_decay: lambda.
        feature_decay: lambda_H.
        loss: which of the ensemble's losses, int32.
        hyperparameters: of each of its losses that are given any.
        seed: int32.
    """

    learning_rate: jax.Array
    weight_decay: jax.Array
    feature_decay: jax.Array
    loss: jax.Array
    hyperparameters: Mapping[str, Mapping[str, jax.Array]]
    seed: jax.Array


def check_ensemble(configs: Sequence[TrainConfig]) -> None:
    """Refuses runs that can't share a program.

    Raises:
        InputError: no run, or runs that differ in more than `VARIED`.
    """
    if not configs:
        raise checks.reject("configs", "none", "at least one run")
    if len(configs) > 1 and configs[0].reconstructs:
        remedy = "Train each alone."
        raise checks.reject("configs", "several autoencoders", "classifiers", remedy)
    first = dataclasses.asdict(configs[0])
    for config in configs[1:]:
        other = dataclasses.asdict(config)
        unlike = [n for n in first if first[n] != other[n] and n not in VARIED]
        if unlike:
            accepted = f"alike but for {', '.join(VARIED)}"
            remedy = "Train the others as an ensemble of their own."
            raise checks.reject("configs", f"runs that differ in {unlike}", accepted, remedy)


def member_of(config: TrainConfig, configs: Sequence[TrainConfig]) -> Member:
    """The numbers of one run among those that train beside it."""
    names = loss_names(configs)
    known: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    for other in configs:  # those that some run gives a value: its own, or the loss's default
        for key in other.hyperparameters:
            default = inspect.signature(losses.LOSSES[other.loss]).parameters[key].default
            mine = config.hyperparameters if config.loss == other.loss else {}
            known[other.loss][key] = np.asarray(mine.get(key, default), np.float32)
    return Member(
        learning_rate=np.asarray(config.learning_rate, np.float32),
        weight_decay=np.asarray(config.weight_decay, np.float32),
        feature_decay=np.asarray(config.feature_decay, np.float32),
        loss=np.asarray(names.index(config.loss), np.int32),
        hyperparameters=known,
        seed=np.asarray(config.seed, np.int32),
    )


def loss_names(configs: Sequence[TrainConfig]) -> tuple[str, ...]:
    """The losses of an ensemble, each once."""
    return tuple(dict.fromkeys(config.loss for config in configs))


def loss_of(member: Member, names: tuple[str, ...]) -> losses.Loss:
    """The loss of a member, per example."""

    def loss(logits: AnyArray, labels: AnyArray) -> jax.Array:
        fns = [losses.get(name, **member.hyperparameters[name]) for name in names]
        if len(fns) == 1:
            return fns[0](logits, labels)
        return jax.lax.switch(member.loss, fns, logits, labels)

    return loss


def stacked(members: Sequence[Member]) -> Member:
    """Several members as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *members)
