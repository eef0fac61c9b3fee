"""What is measured of a network during training: small functions with names."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, curvature, losses
from ncjax.training.engine import Engine
from ncjax.training.steps import State
from ncjax.types import AnyArray

Evaluator = Callable[[Engine, State], Mapping[str, AnyArray]]
"""Numbers by name, each a scalar, or `[members]` for an ensemble."""
SPECTRUM_EXAMPLES = 1000
SPECTRUM_STEPS = 60


def on_train(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """Loss, accuracy and collapse on the training images as they are, without augmentation.

    `clean_accuracy`, by the true labels, is there if labels were corrupted; all else is by the
    labels that were given.
    """
    row = engine.collapse(state, "train")[0]
    if engine.dataset.noise_rate == 0:
        del row["clean_accuracy"]
    return row


def on_test(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """The same on the test set under `test_...`; nothing if there is none."""
    if len(engine.dataset.test_labels) == 0:
        return {}
    row = engine.collapse(state, "test")[0]
    del row["clean_accuracy"]
    return {f"test_{name}": value for name, value in row.items()}


def on_layers(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """Collapse layer by layer, on the training set."""
    return engine.layers(state)


def on_spectrum(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """Ends of the Hessian's spectrum: `hessian_largest` and `hessian_smallest`.

    Of the mean loss, without decay and in inference mode, over a thousand training examples spread
    evenly; sixty Lanczos products. Ritz values: the true ends lie no further in. `ncjax spectrum`
    says more, of a finished run.
    """
    rows = []
    whole = jax.tree.map(np.asarray, dict(state.variables))  # off the devices that share it
    for number in range(len(engine.configs)):
        variables = dict(whole)
        if len(engine.configs) > 1:
            variables = jax.tree.map(lambda leaf, n=number: leaf[n], variables)
        params = variables.pop("params")
        of_engine = _MEAN_LOSSES.setdefault(engine, {})
        if number not in of_engine:
            of_engine[number] = _mean_loss(engine, number)
        f = curvature.hessian(of_engine[number], variables)
        pairs = curvature.extreme_eigenpairs(f, params, (1, 1), "BE", num_steps=SPECTRUM_STEPS)
        rows.append(np.asarray(pairs.eigenvalues))
    smallest, largest = np.stack(rows, axis=1) if len(rows) > 1 else rows[0]
    return {"hessian_largest": largest, "hessian_smallest": smallest}


_MEAN_LOSSES: weakref.WeakKeyDictionary[Engine, dict[int, Callable[..., jax.Array]]]
_MEAN_LOSSES = weakref.WeakKeyDictionary()
"""Of the members of engines that are alive: the same objects each time compile once."""


def _mean_loss(engine: Engine, number: int) -> Callable[..., jax.Array]:
    """A member's, of `(params, other variables)`."""
    config, data = engine.configs[number], engine.dataset
    model = config.model(data.num_classes)
    rows = np.linspace(0, len(data.labels) - 1, SPECTRUM_EXAMPLES).round().astype(int)
    rows = np.unique(rows)
    images, labels = jnp.asarray(data.images[rows]), jnp.asarray(data.labels[rows])
    loss = losses.get(config.loss, **config.hyperparameters)

    def mean_loss(params: Any, rest: Mapping[str, Any]) -> jax.Array:
        inputs = data.inputs(images)
        return loss(model.apply({"params": params, **rest}, inputs, train=False)[0], labels).mean()

    return mean_loss


EVALUATORS: dict[str, Evaluator] = {
    "train": on_train,
    "test": on_test,
    "layers": on_layers,
    "spectrum": on_spectrum,
}


def register_evaluator(name: str, evaluator: Evaluator) -> None:
    """Makes an evaluator of your own known to `TrainConfig.evaluators`.

    Args:
        name: not that of another one.
        evaluator: sees the engine and the state after a measured epoch.

    Raises:
        InputError: the name is another evaluator's.
    """
    if EVALUATORS.setdefault(name, evaluator) is not evaluator:
        raise checks.reject("name", repr(name), "a name that no other evaluator has")
