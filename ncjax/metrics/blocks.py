"""Many rows in blocks that stay in a processor's cache between the passes over them."""

from __future__ import annotations

from typing import Any

import jax

BLOCK = 8192
"""Rows of a block."""


def split(arrays: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...] | None, Any]:
    """Whole blocks, and the rows left over.

    Args:
        arrays: with a common leading axis, `[N, ...]`.

    Returns:
        The arrays as `[blocks, BLOCK, ...]`, None for fewer than two blocks, and the rest as
        `[rows, ...]`.
    """
    blocks = len(arrays[0]) // BLOCK
    if blocks < 2:
        return None, arrays
    whole = tuple(x[: blocks * BLOCK].reshape(blocks, BLOCK, *x.shape[1:]) for x in arrays)
    return whole, tuple(x[blocks * BLOCK :] for x in arrays)
