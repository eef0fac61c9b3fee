r"""Other ways to train with noisy labels, for comparison.

* Early-learning regularisation (ELR, 2007.00151): the network is held to its own earlier
  predictions, of which each sample keeps a running mean t,
  $-\log p_y + \lambda \log(1 - \langle p, t \rangle)$.
* Forward correction (1609.03683): cross entropy of the labels that a known confusion makes of the
  predictions, $-\log (T^\top p)_y$, where T_{ij} is the share of class i that is labelled j.

Generalised cross entropy is one of `ncjax.losses`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from ncjax import checks
from ncjax.types import AnyArray, Scalar

FLOOR = 1e-4


def early_learning_targets(
    targets: Float[AnyArray, "B K"], logits: Float[AnyArray, "B K"], memory: Scalar
) -> Float[Array, "B K"]:
    """Running means after one more prediction; no gradient passes.

    Args:
        targets: before it; zeros at the start.
        logits: of the same samples.
        memory: share of what was there, beta.
    """
    p = jax.lax.stop_gradient(_clipped(logits))
    return memory * jnp.asarray(targets) + (1 - memory) * p / p.sum(-1, keepdims=True)


def early_learning_penalty(
    logits: Float[AnyArray, "B K"], targets: Float[AnyArray, "B K"]
) -> Float[Array, " B"]:
    """log(1 - <p, t>), which falls as predictions agree with earlier ones."""
    return jnp.log1p(-(_clipped(logits) * targets).sum(-1))


def _clipped(logits: AnyArray) -> jax.Array:
    return jnp.clip(jax.nn.softmax(jnp.asarray(logits)), FLOOR, 1 - FLOOR)


def confusion(
    clean: Integer[AnyArray, " N"], given: Integer[AnyArray, " N"], num_classes: int
) -> Float[np.ndarray, "K K"]:
    """T: of each true class, the shares that are labelled as each class; float32.

    Args:
        clean: true labels.
        given: labels that are trained on.
        num_classes: K.

    Raises:
        InputError: a class without a sample, or labels out of range.
    """
    for name, labels in (("clean", clean), ("given", given)):
        checks.check_labels(name, labels, num_classes)
    counts = np.zeros((num_classes, num_classes), np.float32)
    np.add.at(counts, (np.asarray(clean), np.asarray(given)), 1)
    checks.check_all_classes_present("clean", counts.sum(1))
    return counts / counts.sum(1, keepdims=True)


def forward_corrected(
    logits: Float[AnyArray, "B K"], labels: Integer[AnyArray, " B"], matrix: Float[AnyArray, "K K"]
) -> Float[Array, " B"]:
    """Cross entropy of the labels that are given, by predictions of the true ones.

    Args:
        logits: of a batch.
        labels: that are given.
        matrix: T of `confusion`.
    """
    p = jax.nn.softmax(jnp.asarray(logits)) @ jnp.asarray(matrix)
    chosen = jnp.take_along_axis(p, jnp.asarray(labels)[:, None], axis=-1)[:, 0]
    return -jnp.log(jnp.maximum(chosen, FLOOR**2))
