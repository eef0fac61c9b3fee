"""What a training run is asked to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import optax

from ncjax import checks, losses, models


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults bring the digits to the terminal phase in a few seconds.

    Attributes:
        dataset: "digits", or the path of an `.npz` file with `images` and `labels`.
        loss: a name of `ncjax.losses`.
        hyperparameters: of the loss, as `gamma 2.0`.
        widths: hidden layers of the MLP; the last is the feature dimension.
        epochs: passes over the training set.
        batch_size: examples a step, over all devices together.
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: lambda of lambda/2 ||params||^2 in the objective, on all parameters.
        schedule: "cosine" to zero, "step" (a tenth after each third), or "constant".
        measure_every: epochs between two measurements on the whole training set; before that, and
            at the end, epochs 1, 2, 4, 8, ... and the last are measured too.
        checkpoint_every: epochs between two checkpoints.
        seed: of initial weights and batch order.
    """

    dataset: str = "digits"
    loss: str = "cross_entropy"
    hyperparameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    widths: tuple[int, ...] = (256, 256, 256)
    epochs: int = 300
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-3
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    measure_every: int = 10
    checkpoint_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        losses.get(self.loss, **self.hyperparameters)
        for name in ("epochs", "batch_size", "measure_every", "checkpoint_every"):
            checks.check_count(name, getattr(self, name), 1)
        checks.check_count("seed", self.seed, 0)
        if not self.widths:
            raise checks.reject("widths", "no hidden layer", "at least one width")
        for width in self.widths:
            checks.check_count("widths", width, 1)
        checks.check_range("learning_rate", self.learning_rate, 0.0, closed=False)
        checks.check_range("momentum", self.momentum, 0.0, 1.0)
        checks.check_range("weight_decay", self.weight_decay, 0.0)
        checks.check_choice("schedule", self.schedule, ("cosine", "step", "constant"))

    def measured(self, epoch: int) -> bool:
        """Whether the network is measured after this epoch (counted from 1)."""
        early = epoch < self.measure_every and epoch & (epoch - 1) == 0
        return early or epoch == self.epochs or epoch % self.measure_every == 0

    def model(self, num_classes: int, axis_name: str | None = None) -> nn.Module:
        """The network, sharing batch statistics over `axis_name` if it is given."""
        return models.MLP(num_classes, self.widths, axis_name)

    def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """SGD with momentum; decay enters the gradient, so it is the lambda of the theory."""
        steps = self.epochs * steps_per_epoch
        schedule = {
            "constant": optax.constant_schedule(self.learning_rate),
            "cosine": optax.cosine_decay_schedule(self.learning_rate, steps),
            "step": optax.piecewise_constant_schedule(
                self.learning_rate, {steps // 3: 0.1, 2 * steps // 3: 0.1}
            ),
        }[self.schedule]
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.sgd(schedule, momentum=self.momentum),
        )
