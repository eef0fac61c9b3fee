"""Random circular filters that give signals and images channels (2105.10446, section 5).

Padded circularly on the right and bottom, so that lifting commutes with every circular shift.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ncjax import checks
from ncjax.types import AnyArray


def random_filters(
    seed: int, channels: int, size: int, inputs: int, positions: int
) -> Float[jax.Array, "..."]:
    """Standard normal filters, `[size, inputs, channels]` or `[size, size, inputs, channels]`.

    In float32, so that a seed means the same filters in either precision.

    Args:
        seed: of the filters.
        channels: filters, >= 1.
        size: of a filter in each direction, >= 1.
        inputs: channels that come in.
        positions: 1 for signals, 2 for images.
    """
    for name, value in {"channels": channels, "size": size}.items():
        checks.check_count(name, value, 1)
    shape = (size,) * positions + (inputs, channels)
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def lift(
    features: Float[AnyArray, "N ..."], filters: Float[AnyArray, "..."]
) -> Float[jax.Array, "N ..."]:
    """The positive part of the circular correlation with each filter.

    Args:
        features: signals `[N, T, inputs]` or images `[N, H, W, inputs]`.
        filters: from `random_filters`.

    Returns:
        `[N, T, channels]` or `[N, H, W, channels]`.

    Raises:
        InputError: a filter larger than the signal or image, or of other channels.
    """
    features, filters = jnp.asarray(features), jnp.asarray(filters)
    positions, sizes = features.shape[1:-1], filters.shape[:-2]
    fits = len(positions) == len(sizes) and all(
        size <= length for size, length in zip(sizes, positions, strict=True)
    )
    if not fits or features.shape[-1] != filters.shape[-2]:
        accepted = f"at most of size {positions}, for {features.shape[-1]} channel(s)"
        got = f"filters of size {sizes} for {filters.shape[-2]} channel(s)"
        raise checks.reject("filters", got, accepted, "Take smaller filters.")
    padding = [(0, 0), *((0, size - 1) for size in sizes), (0, 0)]
    layout = ("NHC", "HIO", "NHC") if len(sizes) == 1 else ("NHWC", "HWIO", "NHWC")
    lifted = jax.lax.conv_general_dilated(
        jnp.pad(features, padding, mode="wrap"),
        filters.astype(features.dtype),
        window_strides=(1,) * len(sizes),
        padding="VALID",
        dimension_numbers=layout,
        precision=jax.lax.Precision.HIGHEST,
    )
    return jax.nn.relu(lifted)
