"""From coefficients to a graph of the points, never holding N x N numbers (2110.04318, code)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import scipy.sparse
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import normalize

Graph = Literal["neighbours", "symmetric"]


def largest_coefficients(
    rows_of: Callable[[int, int], np.ndarray], count: int, keys: int, kept: int, block: int
) -> scipy.sparse.csr_array:
    """The largest coefficients of each point by absolute value, from blocks of dense rows.

    Args:
        rows_of: gives dense coefficients `[stop - start, N]` of points start to stop.
        count: of points.
        keys: N.
        kept: coefficients of a point that are kept, at most N.
        block: points at a time.
    """

    def parts() -> Iterator[scipy.sparse.csr_array]:
        for start in range(0, count, block):
            dense = rows_of(start, min(start + block, count))
            chosen = np.argpartition(np.abs(dense), keys - kept, axis=1)[:, keys - kept :]
            values = np.take_along_axis(dense, chosen, 1)
            ends = np.arange(len(dense) + 1) * kept
            part = scipy.sparse.csr_array(
                (values.ravel(), chosen.ravel(), ends), shape=(len(dense), keys)
            )
            part.eliminate_zeros()
            yield part

    found = scipy.sparse.vstack(list(parts()), format="csr")
    found.sort_indices()
    return found


def graph_of(
    coefficients: scipy.sparse.csr_array, kind: Graph = "neighbours", neighbours: int = 3
) -> scipy.sparse.csr_array:
    """A symmetric affinity of points, from their coefficients on each other.

    Args:
        coefficients: `[N, N]`; their rows are taken at unit length.
        kind: "neighbours", half for each end that has the other among its nearest, as points with
            their coefficients as coordinates; or "symmetric", the mean of both absolute values.
        neighbours: of a point; 3 in the official code.
    """
    rows = normalize(coefficients)
    if kind == "symmetric":
        rows = abs(rows)
    else:
        rows = kneighbors_graph(rows, neighbours, mode="connectivity", include_self=False)
    return scipy.sparse.csr_array((rows + rows.T) / 2)
