"""From coefficients to a graph of the points, never holding N x N numbers (2110.04318, code)."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Float
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import normalize

from ncjax import checks
from ncjax.senet.model import coefficients
from ncjax.types import AnyArray, Scalar

BLOCK_BYTES = 2**28
"""Of a block of dense coefficients."""
Graph = Literal["neighbours", "symmetric"]


def largest_coefficients(
    queries: Float[AnyArray, "M p"],
    keys: Float[AnyArray, "N p"],
    offset: Scalar,
    kept: int,
    *,
    same: bool = False,
    block: int | None = None,
) -> scipy.sparse.csr_array:
    """The largest coefficients of each point by absolute value, `[M, N]`, from blocks of rows.

    Args:
        queries: of M points.
        keys: of the points they are written in.
        offset: of the network.
        kept: coefficients of a point that are kept, at most N.
        same: whether both are of the same points, whose coefficients on themselves are left out.
        block: points at a time; as many as have 256 MB of coefficients if None.

    Raises:
        InputError: more kept than there are keys.
    """
    checks.check_count("kept", kept, 1)
    if kept > len(keys):
        raise checks.reject("kept", kept, f"at most {len(keys)}, the keys")
    queries, keys = jnp.asarray(queries), jnp.asarray(keys)
    M, N = len(queries), len(keys)
    block = min(M, max(1, BLOCK_BYTES // (4 * N)) if block is None else block)
    values, columns = np.empty((M, kept), np.float32), np.empty((M, kept), np.int32)
    for start in range(0, M, block):
        rows = np.minimum(np.arange(start, start + block), M - 1)
        for whole, part in zip(
            (values, columns), _largest(queries, keys, offset, rows, kept, same), strict=True
        ):
            whole[start : start + block] = np.asarray(part)[: M - start]
    starts = np.arange(M + 1, dtype=np.int32 if M * kept < 2**31 else np.int64) * kept
    found = scipy.sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(M, N))
    found.eliminate_zeros()
    found.sort_indices()
    return found


@functools.partial(jax.jit, static_argnums=(4, 5))
def _largest(
    queries: AnyArray, keys: AnyArray, offset: Scalar, rows: AnyArray, kept: int, same: bool
) -> tuple[jax.Array, jax.Array]:
    found = coefficients(queries[rows], keys, offset)
    if same:
        found = jnp.where(rows[:, None] == jnp.arange(len(keys))[None, :], 0, found)
    columns = jax.lax.top_k(jnp.abs(found), kept)[1]
    return jnp.take_along_axis(found, columns, axis=1), columns


def graph_of(
    found: scipy.sparse.csr_array, kind: Graph = "neighbours", neighbours: int = 3
) -> scipy.sparse.csr_array:
    """A symmetric affinity of points, from their coefficients on each other.

    Args:
        found: coefficients, `[N, N]`; their rows are taken at unit length.
        kind: "neighbours", half for each end that has the other among its nearest, as points with
            their coefficients as coordinates; or "symmetric", the mean of both absolute values.
        neighbours: of a point; 3 in the official code.
    """
    rows = normalize(found)
    if kind == "symmetric":
        rows = abs(rows)
    else:
        rows = kneighbors_graph(rows, neighbours, mode="connectivity", include_self=False)
    both = scipy.sparse.csr_array(rows + rows.T)
    both.data *= both.data.dtype.type(0.5)
    return both
