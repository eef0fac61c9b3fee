"""A trained network back from its run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ncjax import checks, data, losses
from ncjax.training.checkpoints import Checkpoints
from ncjax.training.config import TrainConfig
from ncjax.training.steps import init_state
from ncjax.types import AnyArray


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What a run folder holds, ready for use.

    Attributes:
        config: of the run.
        dataset: that it was trained on, checked to be the same.
        model: for one device; returns `(logits, features)`.
        variables: `params`, and `batch_stats` where the network has any.
        epoch: of the checkpoint.
    """

    config: TrainConfig
    dataset: data.Dataset
    model: nn.Module
    variables: Mapping[str, Any]
    epoch: int

    def logits(self, params: Any, images: Any) -> jax.Array:
        """The network's outputs in inference mode, batch statistics frozen, `[B, K]`."""
        rest = {name: part for name, part in self.variables.items() if name != "params"}
        return self.model.apply({"params": params, **rest}, images, train=False)[0]

    def loss(self, logits: AnyArray, labels: AnyArray) -> jax.Array:
        """The loss that the run trained with, one value per example."""
        return losses.get(self.config.loss, **self.config.hyperparameters)(logits, labels)

    def example_loss(self, params: Any, images: Any, labels: Any) -> jax.Array:
        """The loss as a function of the parameters, one value per example."""
        return self.loss(self.logits(params, images), labels)


def load_run(run: Path | str) -> Trained:
    """Loads the last checkpoint of a training run.

    Args:
        run: the folder that `train` wrote.

    Returns:
        `Trained`.

    Raises:
        InputError: not the folder of a training run, no checkpoint yet, or data that changed.
    """
    path = Path(run) / "config.json"
    try:
        fields = json.loads(path.read_text())["config"]
        fingerprint = fields.pop("data")
        config = TrainConfig(**fields)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        remedy = "Train one with `ncjax train`."
        got = f"{run} ({type(error).__name__}: {error})"
        raise checks.reject("run", got, "the folder of a training run", remedy) from error
    dataset = data.load(config.dataset)
    if dataset.fingerprint != fingerprint:
        got = f"{config.dataset}, which is no longer what the run was trained on"
        raise checks.reject("dataset", got, "unchanged")
    model = config.model(dataset.num_classes)
    optimizer = config.optimizer(len(dataset.labels) // config.batch_size)
    like = init_state(model, optimizer, dataset.images[:1], config.seed)
    with Checkpoints(Path(run)) as checkpoints:
        state = checkpoints.restore(like)
    if state is None:
        remedy = "Let it train until the first one."
        raise checks.reject("run", f"{run}, without a checkpoint", "a run with one", remedy)
    variables = jax.tree.map(np.asarray, dict(state.variables))
    return Trained(config, dataset, model, variables, int(state.epoch))
