"""Many steps of training as one compiled program: the same code under vmap, pmap and shard_map."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ncjax import checks, data, tgt
from ncjax.data.augmentation import augment
from ncjax.models.layers import PENALTIES
from ncjax.parallel import AXIS
from ncjax.training import guided, methods
from ncjax.training.config import TrainConfig
from ncjax.training.members import Member, loss_of
from ncjax.training.optimizers import make_optimizer, penalty
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What a training run carries from step to step; with a leading axis for an ensemble.

    Attributes:
        variables: of the network: `params`, `batch_stats` where it has any, `constants` of a fixed
            head.
        opt_state: of the optimizer, its step count included.
        step: steps done, int32 scalar.
        samples: what the method keeps of each training sample, `[N, ...]`; None if nothing.
        perturbation: of a batch's inputs, `[B, ...]`, in "free" adversarial training.
    """

    variables: Mapping[str, Any]
    opt_state: Any
    step: jax.Array
    samples: Any = None
    perturbation: Any = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is the same for all members and steps of a run.

    Attributes:
        config: of a member; only what members share is read.
        model: returns `(logits, features)`; shares batch statistics over `AXIS` if it shares any.
        losses: names of the members' losses.
        inputs: what the network sees of images (`Dataset.inputs`).
        numbers: of the training examples in the set as it was loaded, int `[N]`; what is kept of
            an example starts alike in whatever subset it is.
        confusion: of true and given labels, `[K, K]`, for forward correction.
        standardised: what the network sees of images between 0 and 1, as attacks change them.
        labels: of the training examples, `[N]`, for guided training.
        guide: the teacher of guided training.
        unlabelled: images of no label that follow the training examples.
    """

    config: TrainConfig
    model: nn.Module
    losses: tuple[str, ...]
    inputs: Callable[[Any], Any]
    numbers: np.ndarray
    confusion: np.ndarray | None = None
    standardised: Callable[[Any], Any] = lambda x: x
    labels: np.ndarray | None = None
    guide: tgt.Guide | None = None
    unlabelled: int = 0

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.numbers)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches: examples that do not fill a last one sit the epoch out."""
        return self.num_examples // self.config.batch_size

    def optimizer(self, member: Member) -> optax.GradientTransformationExtraArgs:
        """A member's."""
        updates = self.steps_per_epoch * max(1, self.config.free.replays)
        return make_optimizer(self.config, updates, member.learning_rate, member.weight_decay)

    def method(self, member: Member) -> methods.Method:
        """A member's."""
        config = self.config
        if config.network == "text_autoencoder":
            return methods.rewriting(config.autoencoder, self.model.vocabulary)
        if config.network == "autoencoder":
            return methods.reconstruction(config.autoencoder, self.model.dim)
        if config.method == "sop":
            return methods.sparse_over_parameterisation(config.sop, config.sop_rates)
        if config.method == "elr":
            return methods.early_learning(config.elr)
        if config.method == "forward":
            return methods.forward(self.confusion)
        if config.method == "tgt":
            loss = loss_of(member, self.losses)
            return guided.guided(config.tgt, loss, self.guide, self.labels, self.model.num_classes)
        if config.method == "logit_adjustment":
            return methods.logit_adjustment(self.labels, self.model.num_classes)
        return methods.standard(loss_of(member, self.losses))


def init_state(task: Task, member: Member, example: AnyArray) -> State:
    """The state before the first step.

    Args:
        task: of the run.
        member: whose seed gives the initial weights.
        example: one image with a batch axis, `[1, ...]`.
    """
    key = jax.random.key(member.seed)
    variables = task.model.init(key, jnp.asarray(task.inputs(example)), train=False)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = task.optimizer(member).init(variables["params"])
    of_samples = jax.random.fold_in(key, 1)
    samples = task.method(member).init(of_samples, task.numbers, task.model.num_classes)
    perturbation = None
    if task.config.free.replays:
        perturbation = jnp.zeros((task.config.batch_size, *np.shape(example)[1:]), jnp.float32)
    return State(variables, opt_state, jnp.zeros((), jnp.int32), samples, perturbation)


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


def make_advance(task: Task) -> Callable[..., tuple[State, jax.Array]]:
    """The work of one device in some steps, for `ncjax.parallel.across_devices`.

    Args:
        task: of the run.

    Returns:
        `advance(member, state, images, labels, rows, count) -> (state, loss)`: as many steps as
        `count` says, on the first of this device's rows `[steps, examples]`; images and labels are
        whole, the training examples first. The loss is the mean over the steps.
    """

    def advance(
        member: Member,
        state: State,
        images: AnyArray,
        labels: AnyArray,
        rows: AnyArray,
        count: AnyArray,
    ) -> tuple[State, jax.Array]:
        images, labels, rows = map(jnp.asarray, (images, labels, rows))

        def body(i: jax.Array, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, total = carry
            chosen = rows[i]
            if task.config.free.replays:
                state, loss = _replayed(task, member, state, images[chosen], labels[chosen], chosen)
                return state, total + loss
            seen = images[chosen]
            if task.config.augment != "none":
                seen = augment(_keys(member, state.step, len(chosen)), seen, task.config.augment)
            batch = methods.Batch(
                keys=_keys(member, state.step, len(chosen), of=1),
                images=images[chosen],
                seen=seen,
                labels=labels[chosen],
                draw=lambda rows: images[rows],
                count=task.num_examples + task.unlabelled,
                inputs=task.inputs,
                unit=data.Dataset.unit,
                standardised=task.standardised,
                student=functools.partial(_student, task, state.variables),
            )
            x, given = jax.lax.stop_gradient(task.method(member).see(batch))
            state, loss, _ = _step(task, member, state, x, batch.labels, chosen, given)
            return dataclasses.replace(state, step=state.step + 1), total + loss

        state, total = jax.lax.fori_loop(0, count, body, (state, jnp.zeros(())))
        return state, total / jnp.asarray(count, total.dtype)

    return advance


def _student(task: Task, variables: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Logits of inputs between 0 and 1, by the network as it is."""
    return task.model.apply(variables, task.standardised(x), train=False)[0]


def _keys(member: Member, step: jax.Array, rows: int, of: int = 0) -> jax.Array:
    """One for each of this device's examples in a step, by its place in the whole batch."""
    key = jax.random.fold_in(jax.random.key(member.seed), step)
    key = jax.random.fold_in(key, of) if of else key
    places = jax.lax.axis_index(AXIS) * rows + jnp.arange(rows)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(places)


def _replayed(
    task: Task, member: Member, state: State, x: jax.Array, y: jax.Array, rows: jax.Array
) -> tuple[State, jax.Array]:
    """A batch of "free" adversarial training: several updates, of network and perturbation."""
    epsilon, replays = task.config.free.epsilon, task.config.free.replays
    first = jax.lax.axis_index(AXIS) * len(rows)
    moved = jax.lax.dynamic_slice_in_dim(state.perturbation, first, len(rows))
    unit = data.Dataset.unit(x)

    def once(_: jax.Array, carry: tuple) -> tuple:
        state, moved, total = carry
        raw = unit + moved
        seen = task.standardised(jnp.clip(raw, 0, 1))
        state, loss, slope = _step(task, member, state, seen, y, rows)
        slope = jnp.where((raw >= 0) & (raw <= 1), slope, 0)  # as through the clipping
        moved = jnp.clip(moved + epsilon * jnp.sign(slope), -epsilon, epsilon)
        return state, moved, total + loss

    state, moved, total = jax.lax.fori_loop(0, replays, once, (state, moved, jnp.zeros(())))
    whole = jax.lax.all_gather(moved, AXIS, tiled=True)
    state = dataclasses.replace(state, step=state.step + 1, perturbation=whole)
    return state, total / replays


def _step(
    task: Task,
    member: Member,
    state: State,
    x: Any,
    y: jax.Array,
    rows: jax.Array,
    given: Any = None,
) -> tuple[State, jax.Array, Any]:
    """An update; the loss before it, and its gradient by the inputs (unused, it costs nothing)."""
    method, optimizer = task.method(member), task.optimizer(member)
    rest = dict(state.variables)
    params = rest.pop("params")
    own = jax.tree.map(lambda leaf: leaf[rows], state.samples)

    def objective(params: Any, own: Any, x: Any) -> tuple[jax.Array, tuple[jax.Array, dict, Any]]:
        variables = {"params": params, **rest}
        mutable = [*rest, PENALTIES] if task.config.orthogonality else list(rest)
        seen = functools.partial(task.model.apply, variables, train=True, mutable=mutable)
        if method.together is None:
            (logits, features), updated = seen(x)
        else:
            first = method.together * len(y)
            (logits, features), updated = seen(x[:first])
            logits = jnp.concatenate([logits, seen(x[first:])[0][0]])
        views = logits.reshape(method.views, len(y), -1)
        loss, found = method.objective(views, y, own, given)
        total = loss
        if task.config.orthogonality:
            each = jax.tree.leaves(updated[PENALTIES])
            updated = {name: part for name, part in updated.items() if name != PENALTIES}
            total = total + task.config.orthogonality * sum(each)
        if task.config.decay == "features":
            squares = jnp.square(features).sum() / len(features)
            total = total + member.feature_decay / 2 * task.num_examples * squares
        if task.config.optimizer == "lbfgs":
            total = total + penalty(params, task.config, member.weight_decay)
        return total, (loss, updated, found)

    slope_of = jax.value_and_grad(objective, (0, 1, 2), has_aux=True, allow_int=True)
    (value, (loss, rest, found)), (gradient, by_own, by_input) = slope_of(params, own, x)
    by_own = jax.tree.map(lambda leaf: leaf / jax.lax.axis_size(AXIS), by_own)
    samples = _replaced(state.samples, rows, method.updated(own, by_own, found))
    value, loss, gradient = jax.lax.pmean((value, loss, gradient), AXIS)
    if task.config.batch_norm == "per_device":
        rest = jax.lax.pmean(rest, AXIS)
    search = {
        "value": value,
        "grad": gradient,
        "value_fn": _whole(lambda params: objective(params, own, x)[0]),
    }
    # optax's schedules mix integers and floats, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, params, **search)
    variables = {"params": optax.apply_updates(params, updates), **rest}
    state = dataclasses.replace(state, variables=variables, opt_state=opt_state, samples=samples)
    return state, loss, by_input


def _replaced(samples: Any, rows: jax.Array, own: Any) -> Any:
    """Samples with the rows of all devices' batches replaced."""
    rows, own = jax.lax.all_gather((rows, own), AXIS, tiled=True)
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), samples, own)


def _whole(objective: Callable[[Any], jax.Array]) -> Callable[[Any], jax.Array]:
    """The mean of an objective over all devices, whose gradient is the mean of theirs."""

    @jax.custom_vjp
    def value(params: Any) -> jax.Array:
        return jax.lax.pmean(objective(params), AXIS)

    def forward(params: Any) -> tuple[jax.Array, Any]:
        return jax.lax.pmean(jax.value_and_grad(objective)(params), AXIS)

    def backward(gradient: Any, slope: jax.Array) -> tuple[Any]:
        return (jax.tree.map(lambda leaf: slope * leaf, gradient),)

    value.defvjp(forward, backward)
    return value
