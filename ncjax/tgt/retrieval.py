"""Retrieval as classification: of a query's scores the passages are the classes (2208.06825).

With scores `[n, m]` in the place of logits, explorers, `distillation` and `confidence` serve as
they are: a student and a labeler of queries are their scores against some passages.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ncjax import checks
from ncjax.types import AnyArray


def contrastive(scores: Float[AnyArray, "n m"]) -> Float[Array, " n"]:
    """Cross entropy of the right passage among those of a batch.

    Args:
        scores: of n queries and m passages, of which the i-th is the i-th query's; others, if m is
            larger, are nobody's.
    """
    scores = jnp.asarray(scores)
    return optax.losses.softmax_cross_entropy_with_integer_labels(scores, jnp.arange(len(scores)))


def ranks(scores: Float[AnyArray, "n M"], right: Int[AnyArray, " n"]) -> Int[Array, " n"]:
    """The place of the right passage, from 1 on; passages of the same score come before it.

    Args:
        scores: of n queries and M passages.
        right: number of each query's passage.
    """
    scores = jnp.asarray(scores)
    own = jnp.take_along_axis(scores, jnp.asarray(right)[:, None], axis=1)
    return (scores >= own).sum(1)


def retrieval_metrics(
    places: Int[AnyArray, " n"], cutoffs: tuple[int, ...] = (1, 10, 100)
) -> dict[str, Float[Array, ""]]:
    """Mean reciprocal rank `mrr`, and `recall_k`: how often the passage is among the first k.

    Args:
        places: from `ranks`.
        cutoffs: the k.

    Raises:
        InputError: no query, or a cutoff below 1.
    """
    places = jnp.asarray(places)
    checks.check_count("places", places.size, 1)
    for cutoff in cutoffs:
        checks.check_count("cutoffs", cutoff, 1)
    found = {f"recall_{k}": (places <= k).mean() for k in cutoffs}
    return {"mrr": (1 / places).mean(), **found}
