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
from ncjax.training.engine import Engine
from ncjax.types import AnyArray


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What a run folder holds, ready for use.

    Attributes:
        config: of the run.
        dataset: that it was trained on, checked to be the same, corrupted as the config says.
        model: for one device, with convolutions that differentiate any way; returns
            `(logits, features)`.
        variables: `params`, and `batch_stats` and `constants` where the network has any.
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
        inputs = self.dataset.inputs(images)
        return self.model.apply({"params": params, **rest}, inputs, train=False)[0]

    def loss(self, logits: AnyArray, labels: AnyArray) -> jax.Array:
        """The loss that the run trained with, one value per example."""
        return losses.get(self.config.loss, **self.config.hyperparameters)(logits, labels)

    def example_loss(self, params: Any, images: Any, labels: Any) -> jax.Array:
        """The loss as a function of the parameters, one value per example."""
        return self.loss(self.logits(params, images), labels)


def load_run(run: Path | str, *, member: int = 0, snapshot: int | None = None) -> Trained:
    """Loads a checkpoint of a training run.

    Args:
        run: the folder that `train` or `train_ensemble` wrote.
        member: of an ensemble.
        snapshot: the epoch of a snapshot; the last checkpoint if None.

    Returns:
        `Trained`.

    Raises:
        InputError: not the folder of a training run, no such member or checkpoint, or data that
            changed.
    """
    path = Path(run) / "config.json"
    try:
        fields = json.loads(path.read_text())["config"]
        fingerprint = fields.pop("data")
        configs = [TrainConfig(**one) for one in fields.get("members", [fields])]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        remedy = "Train one with `ncjax train`."
        got = f"{run} ({type(error).__name__}: {error})"
        raise checks.reject("run", got, "the folder of a training run", remedy) from error
    checks.check_range("member", member, 0, len(configs))
    config = configs[member]
    dataset = data.load(config.dataset).corrupt(config.corruption)
    if dataset.fingerprint != fingerprint:
        got = f"{config.dataset}, which is no longer what the run was trained on"
        raise checks.reject("dataset", got, "unchanged")
    engine = Engine(configs, dataset, "vmap", jax.local_devices()[:1])
    kind = "checkpoints" if snapshot is None else "snapshots"
    step = None if snapshot is None else snapshot * engine.task.steps_per_epoch
    with Checkpoints(Path(run) / kind, keep=None) as checkpoints:
        state = checkpoints.restore(jax.eval_shape(engine.initial), step)
    if state is None:
        remedy = "Let it train until the first one."
        raise checks.reject("run", f"{run}, without a checkpoint", "a run with one", remedy)
    variables = jax.tree.map(np.asarray, dict(state.variables))
    if len(configs) > 1:
        variables = jax.tree.map(lambda leaf: leaf[member], variables)
    epoch = int(np.max(state.step)) // engine.task.steps_per_epoch
    model = config.model(dataset.num_classes, shape=dataset.images.shape[1:])
    return Trained(config, dataset, model, variables, epoch)
