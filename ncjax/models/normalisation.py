"""Batch normalisation as all models of the library use it."""

from __future__ import annotations

import flax.linen as nn
import jax


class BatchNorm(nn.BatchNorm):
    """Flax's, forgetting a tenth of the running statistics a step, in any precision.

    With `axis_name` the statistics are those of the whole batch over all devices; without it each
    device takes those of its own share, and running ones are averaged by no one.
    """

    momentum: float = 0.9

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises over all axes but the last."""
        # Flax mixes bfloat16 with float32 statistics, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            return super().__call__(x)
