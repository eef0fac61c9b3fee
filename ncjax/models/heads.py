"""The last layer: learned, or a fixed simplex ETF; and how to read W and b out of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax import frames
from ncjax.types import AnyArray

NAME = "head"
"""The name under which every model of the library keeps its last layer."""
HeadKind = Literal["learned", "etf"]
HEADS: tuple[str, ...] = ("learned", "etf")


class Head(nn.Module):
    """Logits from features.

    Attributes:
        num_classes: K.
        kind: "learned", or "etf": the simplex ETF sqrt(K/(K-1)) P in the first K coordinates, which
            is no parameter, has no gradient and never changes (2105.02375, section 5).
        bias: whether there is one; it is learned either way.
    """

    num_classes: int
    kind: HeadKind = "learned"
    bias: bool = True

    @nn.compact
    def __call__(self, features: Float[AnyArray, "N d"]) -> Float[Array, "N K"]:
        """Logits, in the precision of the parameters."""
        shape = (features.shape[-1], self.num_classes)
        if self.kind == "learned":
            kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        else:
            kernel = self.variable(
                "constants", "kernel", lambda: frames.simplex_etf(shape[1], shape[0]).T
            ).value
        logits = features.astype(kernel.dtype) @ kernel
        if not self.bias:
            return logits
        return logits + self.param("bias", nn.initializers.zeros, shape[1:])[None, :]


def classifier(
    variables: Mapping[str, Any],
) -> tuple[Float[Array, "K d"], Float[Array, " K"]]:
    """The classifier of a network of this library.

    Args:
        variables: the network's, with `params`.

    Returns:
        W `[K, d]`, learned or fixed, and b `[K]`, zero if there is none.
    """
    head: Mapping[str, jax.Array] = variables["params"].get(NAME, {})
    W = (head if "kernel" in head else variables["constants"][NAME])["kernel"].T
    W = jnp.asarray(W)
    return W, jnp.asarray(head.get("bias", jnp.zeros(len(W), W.dtype)))
