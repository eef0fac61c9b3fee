"""What is measured of a network during training: small functions with names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ncjax import checks
from ncjax.training.engine import Engine
from ncjax.training.steps import State
from ncjax.types import AnyArray

Evaluator = Callable[[Engine, State], Mapping[str, AnyArray]]
"""Numbers by name, each a scalar, or `[members]` for an ensemble."""


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


EVALUATORS: dict[str, Evaluator] = {"train": on_train, "test": on_test, "layers": on_layers}


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
