r"""The loss of a batch of points and its gradient, in memory that does not grow with their number.

The residual of a point takes the keys of all points, so a plain gradient holds all of them. Given
the residuals r_i, though, the gradient is that of

$$\sum_i \Bigl(\sum_j r(c_{ij}) - \gamma\, \bar r_i^\top \sum_j c_{ij} x_j\Bigr)$$

with r_i held fixed, a sum over keys (2110.04318): a first pass over blocks of keys finds the
residuals, a second one adds up gradients. Both are exact.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncjax.senet.elastic_net import ElasticNet
from ncjax.senet.model import SelfExpressiveNet, coefficients, standardised
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Points:
    """Points at unit length with their row numbers, as a batch `[B]` or in blocks `[blocks, M]`.

    Attributes:
        points: `[..., D]`.
        rows: int32; -1 of padding, which is zero.
    """

    points: AnyArray
    rows: AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """What stays the same from step to step.

    Attributes:
        blocks: all points, as keys.
        mean: of all points, `[D]`.
        elastic_net: the weights.
    """

    blocks: Points
    mean: AnyArray
    elastic_net: ElasticNet = dataclasses.field(metadata={"static": True})


def blocks_of(points: np.ndarray, block: int, shards: int = 1) -> Points:
    """All points in equal blocks, padded, their number a multiple of the number of devices.

    Args:
        points: `[N, D]`.
        block: points in a block, at most.
        shards: devices.

    Returns:
        Blocks `[count, M, D]`.
    """
    N = len(points)
    count = -(-N // block)
    count += -count % shards
    M = -(-N // count)
    rows = np.arange(count * M, dtype=np.int32).reshape(count, M)
    there = rows < N
    padded = np.where(there[..., None], points[np.where(there, rows, 0)], 0)
    return Points(padded.astype(points.dtype), np.where(there, rows, -1))


def batch_of(rows: AnyArray, blocks: Points, axis_name: str) -> Points:
    """The points of some row numbers, from the devices that have them.

    Args:
        rows: int32 `[B]`.
        blocks: this device's share of `blocks_of`.
        axis_name: a mapped axis whose devices share the points.
    """
    ours = blocks.points.reshape(-1, blocks.points.shape[-1])
    places = rows - jax.lax.axis_index(axis_name) * len(ours)
    here = (places >= 0) & (places < len(ours))
    found = jnp.where(here[:, None], ours[jnp.where(here, places, 0)], 0)
    return Points(jax.lax.psum(found, axis_name), rows)


def value_and_gradient(
    model: SelfExpressiveNet, params: Any, batch: Points, problem: Problem
) -> tuple[jax.Array, Any]:
    """The mean objective of a batch and its gradient, all keys in one graph.

    Args:
        model: the network.
        params: its parameters.
        batch: B points, that are written in all others.
        problem: all points, and the weights.
    """

    def loss(params: Any) -> jax.Array:
        queries = _queries(model, params, batch, problem)
        joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), problem.blocks)
        found = _block_coefficients(model, params, queries, batch, joined, problem)
        residuals = batch.points - found @ joined.points
        return problem.elastic_net.value(found, residuals).mean()

    return jax.value_and_grad(loss)(params)


def two_pass_value_and_gradient(
    model: SelfExpressiveNet,
    params: Any,
    batch: Points,
    problem: Problem,
    axis_name: str | None = None,
) -> tuple[jax.Array, Any]:
    """The same by two passes over blocks of keys, holding one block at a time.

    Args:
        model: the network.
        params: its parameters.
        batch: B points, that are written in all others.
        problem: all points, and the weights; with `axis_name` this device's share of blocks.
        axis_name: a mapped axis whose devices share the keys.
    """
    net, count = problem.elastic_net, len(batch.points)
    total = (lambda x: x) if axis_name is None else (lambda x: jax.lax.psum(x, axis_name))
    queries, pull_queries = jax.vjp(lambda p: _queries(model, p, batch, problem), params)

    def reconstruct(done: jax.Array, block: Points) -> tuple[jax.Array, None]:
        found = _block_coefficients(model, params, queries, batch, block, problem)
        return done + found @ block.points, None

    zeros = jnp.zeros_like(batch.points)
    residuals = batch.points - total(jax.lax.scan(reconstruct, zeros, problem.blocks)[0])

    def share(params: Any, queries: jax.Array, block: Points) -> tuple[jax.Array, jax.Array]:
        found = _block_coefficients(model, params, queries, batch, block, problem)
        cost = net.penalty(found).sum() / count
        explained = (residuals * (found @ block.points)).sum() / count
        return cost - net.gamma * explained, cost

    def add(done: tuple, block: Points) -> tuple[tuple, None]:
        (_, cost), slopes = jax.value_and_grad(share, (0, 1), has_aux=True)(params, queries, block)
        return jax.tree.map(jnp.add, done, (cost, slopes)), None

    nothing = jax.tree.map(jnp.zeros_like, (jnp.zeros((), queries.dtype), (params, queries)))
    cost, (slopes, to_queries) = total(jax.lax.scan(add, nothing, problem.blocks)[0])
    gradient = jax.tree.map(jnp.add, slopes, pull_queries(to_queries)[0])
    fit = net.gamma / 2 * jnp.square(residuals).sum(-1).mean()
    return fit + cost, gradient


def _queries(model: SelfExpressiveNet, params: Any, batch: Points, problem: Problem) -> jax.Array:
    inputs = standardised(batch.points, problem.mean)
    return model.apply({"params": params}, inputs, method="queries")


def _block_coefficients(
    model: SelfExpressiveNet,
    params: Any,
    queries: jax.Array,
    batch: Points,
    block: Points,
    problem: Problem,
) -> jax.Array:
    """Coefficients of the batch on a block of keys, `[B, M]`; none of a point on itself."""
    inputs = standardised(block.points, problem.mean)
    keys = model.apply({"params": params}, inputs, method="keys")
    found = coefficients(queries, keys, params["offset"])
    own = batch.rows[:, None] == block.rows[None, :]
    return jnp.where(own | (block.rows < 0)[None, :], 0, found)
