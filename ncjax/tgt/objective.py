"""What a student is held to: its labels, and the labeler's word on real and generated examples."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ncjax.types import AnyArray, Scalar

Confidence = Literal["none", "probability", "threshold"]
CONFIDENCES: tuple[str, ...] = ("none", "probability", "threshold")


def disagreement(
    student: Float[AnyArray, "n K"], labeler: Float[AnyArray, "n K"], temperature: Scalar = 1.0
) -> Float[Array, " n"]:
    """KL(h || f) of labeler h and student f, both softened.

    Args:
        student: logits.
        labeler: logits.
        temperature: that both are divided by.
    """
    log_f, log_h = (jax.nn.log_softmax(jnp.asarray(z) / temperature) for z in (student, labeler))
    return optax.losses.kl_divergence_with_log_targets(log_f, log_h)


def distillation(
    student: Float[AnyArray, "n K"], labeler: Float[AnyArray, "n K"], temperature: Scalar = 4.0
) -> Float[Array, " n"]:
    """The disagreement times the square of the temperature (1503.02531).

    With that factor the gradient keeps its size as the temperature changes. A labeler that is sure
    of all it was trained on says no more than the labels do at temperature 1; hence the default.

    Args:
        student: logits.
        labeler: logits; no gradient passes.
        temperature: that both are divided by.
    """
    return temperature**2 * disagreement(student, jax.lax.stop_gradient(labeler), temperature)


def confidence(
    labeler: Float[AnyArray, "n K"], kind: Confidence = "probability", threshold: Scalar = 0.5
) -> Float[Array, " n"]:
    """Weights of generated examples, by how sure the labeler is of them.

    Args:
        labeler: logits.
        kind: "none": 1; "probability": the largest class probability; "threshold": 1 where that is
            at least the threshold, else 0.
        threshold: of "threshold".
    """
    largest = jax.nn.softmax(jnp.asarray(labeler)).max(-1)
    return {
        "none": jnp.ones_like(largest),
        "probability": largest,
        "threshold": (largest >= threshold).astype(largest.dtype),
    }[kind]
