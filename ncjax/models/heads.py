"""How to read the classifier, W and b, out of a network's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

NAME = "head"
"""The name under which every model of the library keeps its last layer."""


def classifier(params: Mapping[str, Any]) -> tuple[Float[Array, "K d"], Float[Array, " K"]]:
    """The classifier of a network of this library.

    Args:
        params: the network's parameters.

    Returns:
        W `[K, d]` and b `[K]`.
    """
    head: Mapping[str, jax.Array] = params[NAME]
    return head["kernel"].T, head["bias"]
