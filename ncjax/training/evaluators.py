"""What is measured of a network during training: small functions with names."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import roc_auc_score

from ncjax import checks, curvature, losses, sop
from ncjax.training.engine import Engine, Part
from ncjax.training.steps import State
from ncjax.types import AnyArray

Evaluator = Callable[[Engine, State], Mapping[str, AnyArray]]
"""Numbers by name, each a scalar, or `[members]` for an ensemble."""
SPECTRUM_EXAMPLES = 1000
SPECTRUM_STEPS = 60


def on_train(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """Loss, accuracy and collapse on the training images as they are, without augmentation.

    Of an autoencoder `mse`, the squared error of a pixel, and `divergence`.
    Where labels were corrupted there are `clean_accuracy`, by the true labels, and `memorised`, the
    share of wrong labels that are predicted; all else is by the labels that were given.
    """
    row = engine.collapse(state, "train")[0]
    if engine.configs[0].reconstructs:
        return row
    row, wrong = _without(row, "recalls"), engine.dataset.noise_rate
    if not wrong:
        return _without(row, *_OF_NOISE)
    return row | {"memorised": row["memorised"] / wrong}


def on_test(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """The same on the test set under `test_...`; nothing if there is none."""
    if len(engine.dataset.test_labels) == 0:
        return {}
    return _under_name(engine, state, "test")


def on_validation(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """The same on images that were set aside (`Corruption.validation`), `validation_...`."""
    if engine.dataset.validation_labels is None:
        return {}
    return _under_name(engine, state, "validation")


def _under_name(engine: Engine, state: State, part: Part) -> dict[str, AnyArray]:
    row = _without(engine.collapse(state, part)[0], *_OF_NOISE, "recalls")
    return {f"{part}_{name}": value for name, value in row.items()}


def on_clean(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """Collapse of the training images by their true labels, under `clean_...`."""
    row = engine.collapse(state, "clean")[0]
    row = _without(row, *_OF_NOISE, "recalls", "loss", "accuracy")
    return {f"clean_{name}": value for name, value in row.items()}


def on_classes(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """Accuracy on each class of the test set, `test_recall_0` ...; and of a validation set."""
    found: dict[str, AnyArray] = {}
    parts = {"test": engine.dataset.test_labels, "validation": engine.dataset.validation_labels}
    for part, labels in parts.items():
        if labels is not None and len(labels):
            recalls = np.moveaxis(np.asarray(engine.collapse(state, part)[0]["recalls"]), -1, 0)
            found |= {f"{part}_recall_{k}": np.asarray(one) for k, one in enumerate(recalls)}
    return found


def on_sop(engine: Engine, state: State) -> Mapping[str, AnyArray]:
    """What SOP takes for wrong labels; nothing of another method.

    `sop_rate` is the share of labels with U above a half, `sop_u` and `sop_v` means of U and of the
    largest V; where labels were corrupted, `sop_auc` says how well U + V ranks the wrong ones.
    """
    if engine.configs[0].method != "sop":
        return {}
    rows = [_sop_row(noise, engine) for noise in engine.of_members(state.samples)]
    return {name: np.squeeze([row[name] for row in rows]) for name in rows[0]}


def _sop_row(noise: sop.Noise, engine: Engine) -> dict[str, float]:
    table = sop.label_issues(noise, engine.dataset.labels).sort_values("sample")
    U = np.minimum(np.square(noise.u[:, 0]), 1)
    row = {"sop_rate": sop.noise_rate(noise), "sop_u": U.mean()}
    row["sop_v"] = (table["score"].to_numpy() - U).mean()
    if engine.dataset.noise_rate:
        wrong = engine.dataset.labels != engine.dataset.clean_labels
        row["sop_auc"] = roc_auc_score(wrong, table["score"])
    return row


_OF_NOISE = ("clean_accuracy", "memorised")


def _without(row: Mapping[str, AnyArray], *names: str) -> dict[str, AnyArray]:
    return {name: value for name, value in row.items() if name not in names}


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
    "validation": on_validation,
    "clean": on_clean,
    "classes": on_classes,
    "sop": on_sop,
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
