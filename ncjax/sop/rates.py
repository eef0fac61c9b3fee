r"""When v switches on, and learning rates with which it does so in time.

For a sample whose label the network contradicts at every visit, the loss's second term multiplies v
at the predicted class, a visit, by

$$ g = 1 + 4\, \mathrm{lr}_v / B, $$

where 1/B is that of the mean over the batch. So v takes log(1 / start) / log(g) epochs to 1, and in
fewer epochs SOP is plain cross entropy.
"""

from __future__ import annotations

import dataclasses
import math

from ncjax import checks
from ncjax.sop.noise import START

SOON = 4
"""Epochs after which v switches on by `suggested`: networks memorise soon after, however long they
are trained."""
U_RATE = 100 / 64
"""Of u, over the batch size, there; both were chosen on digits."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates of u and v."""

    u: float
    v: float


def activation_epochs(lr_v: float, batch_size: int, scale: float = START) -> float:
    """Epochs of constant disagreement before v, from its start, is at 1.

    Args:
        lr_v: learning rate of v.
        batch_size: B.
        scale: of the start.

    Raises:
        InputError: a rate or scale that is not positive, or no batch.

    Examples:
        >>> round(activation_epochs(100, 128)), round(activation_epochs(1, 128))
        (13, 599)
    """
    checks.check_range("lr_v", lr_v, 0.0, closed=False)
    checks.check_count("batch_size", batch_size, 1)
    checks.check_range("scale", scale, 0.0, 1.0, closed=False)
    return -math.log(scale) / math.log1p(4 * lr_v / batch_size)


def suggested(batch_size: int, epochs: int, scale: float = START) -> Rates:
    """Rates with which v switches on after four epochs, or half of them if there are fewer than 8.

    Args:
        batch_size: B.
        epochs: of training.
        scale: of the start.
    """
    checks.check_count("batch_size", batch_size, 1)
    checks.check_count("epochs", epochs, 1)
    growth = -math.log(scale) / min(SOON, epochs / 2)
    return Rates(u=batch_size * U_RATE, v=batch_size / 4 * math.expm1(growth))


def check_activation(lr_v: float, batch_size: int, epochs: int, scale: float = START) -> float:
    """Refuses training in which v can't switch on.

    Args:
        lr_v: learning rate of v.
        batch_size: B.
        epochs: of training.
        scale: of the start.

    Returns:
        The epochs that it takes.

    Raises:
        InputError: more than there are.
    """
    needed = activation_epochs(lr_v, batch_size, scale)
    if needed > epochs:
        least = batch_size / 4 * math.expm1(-math.log(scale) / epochs)
        got = f"{lr_v:g}, with which v switches on after {needed:.0f} of {epochs} epochs"
        accepted = f"more than {least:.3g}: log(1e8) / log(1 + 4 lr_v / B) epochs are what it takes"
        better = suggested(batch_size, epochs, scale)
        remedy = f"Try lr_u {better.u:.3g} and lr_v {better.v:.3g}, more epochs, or `inert`."
        raise checks.reject("lr_v", got, accepted, remedy)
    return needed
