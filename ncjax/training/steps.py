"""One epoch of training as one compiled program: the same code under vmap, pmap and shard_map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ncjax import checks, losses
from ncjax.parallel import AXIS
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What a training run carries from epoch to epoch.

    Attributes:
        variables: of the network: `params`, and `batch_stats` where it has any.
        opt_state: of the optimizer, its step count included.
        epoch: epochs done, int32 scalar.
    """

    variables: Mapping[str, Any]
    opt_state: Any
    epoch: jax.Array


def init_state(
    model: nn.Module, optimizer: optax.GradientTransformation, example: np.ndarray, seed: int
) -> State:
    """The state before the first epoch.

    Args:
        model: returns `(logits, features)`.
        optimizer: from `TrainConfig.optimizer`.
        example: one input with a batch axis, `[1, ...]`.
        seed: of the initial weights.
    """
    variables = model.init(jax.random.key(seed), jnp.asarray(example), train=False)
    return State(variables, optimizer.init(variables["params"]), jnp.zeros((), jnp.int32))


def check_batch_size(batch_size: int, num_examples: int, shards: int) -> None:
    """Refuses a batch that the devices can't share evenly, or that the data can't fill.

    Raises:
        InputError: naming `batch_size`.
    """
    if batch_size > num_examples or batch_size % shards:
        accepted = f"a multiple of the {shards} device(s), and at most the {num_examples} examples"
        raise checks.reject("batch_size", batch_size, accepted)


def batch_rows(
    num_examples: int, batch_size: int, epoch: int, seed: int, shards: int
) -> np.ndarray:
    """The batches of an epoch as row numbers, a function of seed and epoch alone.

    Examples that do not fill a last batch sit this epoch out, so that all batches are alike.

    Args:
        num_examples: N.
        batch_size: over all shards together, as `check_batch_size` accepts it.
        epoch: counted from 0.
        seed: of the run.
        shards: devices that share each batch.

    Returns:
        Row numbers, int32 `[shards, steps, batch_size / shards]`.
    """
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    order = np.asarray(jax.random.permutation(key, num_examples), np.int32)
    steps = num_examples // batch_size
    rows = order[: steps * batch_size].reshape(steps, shards, batch_size // shards)
    return rows.swapaxes(0, 1)


def make_epoch(
    model: nn.Module, optimizer: optax.GradientTransformation, loss_fn: losses.Loss
) -> Callable[..., State]:
    """The work of one device in one epoch, for `ncjax.parallel.across_devices`.

    Args:
        model: returns `(logits, features)`; shares batch statistics over `AXIS` if it has any.
        optimizer: its update sees the gradient of the mean over the whole batch.
        loss_fn: per example.

    Returns:
        `epoch(state, images, labels, rows) -> state`, with images and labels whole and rows this
        device's share, `[steps, examples]`.
    """

    def objective(params: Any, rest: dict[str, Any], x: jax.Array, y: jax.Array) -> tuple:
        (logits, _), updated = model.apply(
            {"params": params, **rest}, x, train=True, mutable=list(rest)
        )
        return loss_fn(logits, y).mean(), updated

    def epoch(state: State, images: AnyArray, labels: AnyArray, rows: AnyArray) -> State:
        def step(carry: tuple, chosen: jax.Array) -> tuple:
            params, rest, opt_state = carry
            gradient_of = jax.grad(objective, has_aux=True)
            gradient, rest = gradient_of(params, rest, images[chosen], labels[chosen])
            gradient = jax.lax.pmean(gradient, AXIS)
            # optax's schedules mix integers and floats, which strict promotion would refuse.
            with jax.numpy_dtype_promotion("standard"):
                updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), rest, opt_state), None

        images, labels = jnp.asarray(images), jnp.asarray(labels)
        rest = dict(state.variables)
        params = rest.pop("params")
        (params, rest, opt_state), _ = jax.lax.scan(step, (params, rest, state.opt_state), rows)
        return State({"params": params, **rest}, opt_state, state.epoch + 1)

    return epoch
