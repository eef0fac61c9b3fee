r"""The self-expressive network: coefficients as a thresholded product of queries and keys.

$$c_{ij} = \tfrac1p\, S_b\bigl(u(x_i)^\top v(x_j)\bigr), \qquad
  S_b(t) = \mathrm{sign}(t) \max(|t| - b, 0)$$

with two perceptrons u and v and a learned offset b (2110.04318). Once trained, it gives the
coefficients of points that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from ncjax.senet.elastic_net import soft_threshold
from ncjax.types import AnyArray, Scalar

Start = Literal["tied", "official"]
SMALL = 1e-2
"""Of the variance of the output layer in the tied start."""


class Perceptron(nn.Module):
    """Dense and ReLU, repeated, a dense layer, tanh.

    Attributes:
        widths: of the hidden layers.
        outputs: p.
        output_variance: of the last layer's Xavier initialisation, over its usual one.
    """

    widths: Sequence[int]
    outputs: int
    output_variance: float = 1.0

    @nn.compact
    def __call__(self, x: Float[AnyArray, "N D"]) -> Float[jax.Array, "N p"]:
        """The embedding of each point."""
        for width in self.widths:
            he = nn.initializers.he_uniform()
            x = nn.relu(nn.Dense(width, kernel_init=he, param_dtype=x.dtype)(x))
        xavier = nn.initializers.variance_scaling(self.output_variance, "fan_avg", "uniform")
        return jnp.tanh(nn.Dense(self.outputs, kernel_init=xavier, param_dtype=x.dtype)(x))


class SelfExpressiveNet(nn.Module):
    """Both perceptrons and the offset.

    Attributes:
        widths: of the hidden layers; three of 1,024 in the paper.
        dim: p, of queries and keys; 1,024 in the paper.
        start: "official", two independent perceptrons, whose coefficients are far too large at
            first; or "tied", both alike and small in output, so that coefficients begin as a
            similarity of the points, of about the right size.
    """

    widths: Sequence[int] = (1024, 1024, 1024)
    dim: int = 1024
    start: Start = "tied"

    def setup(self) -> None:
        """Names the parts: parameters are "query", "key" and "offset"."""
        variance = SMALL if self.start == "tied" else 1.0
        self.query = Perceptron(self.widths, self.dim, variance)
        self.key = Perceptron(self.widths, self.dim, variance)
        self.offset = self.param("offset", nn.initializers.zeros, ())

    def __call__(self, x: Float[AnyArray, "N D"]) -> tuple[jax.Array, jax.Array]:
        """Queries and keys of the same points, `[N, p]` each."""
        return self.query(x), self.key(x)

    def queries(self, x: Float[AnyArray, "N D"]) -> Float[jax.Array, "N p"]:
        """u(x)."""
        return self.query(x)

    def keys(self, x: Float[AnyArray, "N D"]) -> Float[jax.Array, "N p"]:
        """v(x)."""
        return self.key(x)


def initial_parameters(
    model: SelfExpressiveNet, key: PRNGKeyArray, inputs: int, dtype: Any = jnp.float32
) -> Any:
    """The parameters that training starts from.

    Args:
        model: the network.
        key: random key.
        inputs: D.
        dtype: of the points.
    """
    params = model.init(key, jnp.zeros((1, inputs), dtype))["params"]
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    return params | {"key": params["query"]} if model.start == "tied" else params


def standardised(points: AnyArray, mean: AnyArray) -> jax.Array:
    """What the perceptrons see of points at unit length: less their mean, entries of order 1."""
    return (jnp.asarray(points) - jnp.asarray(mean)[None, :]) * math.sqrt(points.shape[-1])


def coefficients(
    queries: Float[AnyArray, "B p"], keys: Float[AnyArray, "N p"], offset: Scalar
) -> Float[jax.Array, "B N"]:
    """c_ij; where a query and a key are the same point it is to be left out."""
    return soft_threshold(jnp.matmul(queries, keys.T), offset) / queries.shape[-1]
