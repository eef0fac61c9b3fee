"""The optimizers of the papers, with their numbers as arguments that may be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ncjax.models.heads import NAME
from ncjax.training.config import TrainConfig
from ncjax.types import Scalar

LBFGS_MEMORY = 10
"""Of the papers' code."""


def make_optimizer(
    config: TrainConfig,
    steps_per_epoch: int,
    learning_rate: Scalar | None = None,
    weight_decay: Scalar | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a run. Decay enters the gradient, so it is the lambda of the theory.

    Args:
        config: says which.
        steps_per_epoch: of the schedule.
        learning_rate: in place of the config's.
        weight_decay: in place of the config's. AdamW's is decoupled; L-BFGS has none: its line
            search needs the decay in the objective.
    """
    rate = config.learning_rate if learning_rate is None else learning_rate
    decay = config.weight_decay if weight_decay is None else weight_decay
    factor = _schedule(config, steps_per_epoch)

    def schedule(step: jax.Array) -> Scalar:
        return rate * factor(step)

    if config.optimizer == "lbfgs":
        return optax.lbfgs(memory_size=LBFGS_MEMORY)
    clip = optax.identity() if config.clip is None else optax.clip_by_global_norm(config.clip)
    mask = None if config.decay == "all" else decayed
    if config.optimizer == "adamw":
        last = optax.adamw(schedule, weight_decay=decay, mask=mask)
        return optax.with_extra_args_support(optax.chain(clip, last))
    last = optax.adam(schedule)
    if config.optimizer == "sgd":
        last = optax.sgd(schedule, momentum=config.momentum)
    chain = optax.chain(clip, optax.add_decayed_weights(decay, mask), last)
    return optax.with_extra_args_support(chain)


def decayed(params: Any) -> Any:
    """Which parameters decay together with the features: the head's."""
    return {name: jax.tree.map(lambda _, n=name: n == NAME, sub) for name, sub in params.items()}


def _schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[Any], Scalar]:
    """The factor of the learning rate over the steps."""
    steps = config.epochs * steps_per_epoch
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(1.0, steps)
    drops = config.drops if config.schedule == "step" else ()
    return optax.piecewise_constant_schedule(1.0, {int(steps * at): config.drop for at in drops})


def penalty(params: Any, config: TrainConfig, weight_decay: Scalar) -> jax.Array:
    """lambda/2 ||.||^2 of the parameters that decay."""
    if config.decay == "features":
        params = params.get(NAME, {})
    squares = [jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)]
    return weight_decay / 2 * jnp.asarray(sum(squares))
