"""Depthwise convolutions as sums of shifted inputs, which XLA fuses into one pass on any device.

XLA's CPU backend has no fast grouped convolution, and reduces over a batch several times slower
than it adds arrays. So the kernel's gradient of `depthwise_fast` is summed elementwise over some
images at a time, and over pixels at the end. Like `ncjax.models.convolutions.convolve` it has a
reverse rule of its own, which forward-mode differentiation does not pass: for curvature take
`depthwise`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncjax.types import AnyArray

_UNROLLED = 8


def depthwise(
    x: Float[AnyArray, "N *size C"], kernel: Float[AnyArray, "*taps C"]
) -> Float[Array, "N *size C"]:
    """Each channel correlated with a filter of its own, padded with zeros to the size it has.

    Args:
        x: images or signals.
        kernel: a filter for each channel; the middle tap, the earlier one of two, is unshifted.
    """
    kernel = jnp.asarray(kernel)
    over = (None,) * (x.ndim - 1)
    total = jnp.zeros_like(x)
    for tap, window in _windows(jnp.asarray(x), kernel.shape[:-1]):
        total = total + window * kernel[tap][over]
    return total


def _windows(x: jax.Array, taps: tuple[int, ...]) -> list[tuple[tuple[int, ...], jax.Array]]:
    """The shifted input that goes with each tap."""
    borders = [((size - 1) // 2, size // 2) for size in taps]
    padded = jnp.pad(x, ((0, 0), *borders, (0, 0)))
    found = []
    for tap in np.ndindex(*taps):
        places = zip(tap, x.shape[1:-1], strict=True)
        window = tuple(slice(start, start + size) for start, size in places)
        found.append((tap, padded[:, *window]))
    return found


@jax.custom_vjp
def depthwise_fast(x: AnyArray, kernel: AnyArray) -> jax.Array:
    """`depthwise` with a reverse rule for CPUs."""
    return depthwise(x, kernel)


def _forward(x: AnyArray, kernel: AnyArray) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernel), (jnp.asarray(x), jnp.asarray(kernel))


def _backward(saved: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    by_input = jax.vjp(lambda x: depthwise(x, kernel), x)[1](slope)[0]
    return by_input, _kernel_gradient(x, slope, kernel.shape[:-1])


depthwise_fast.defvjp(_forward, _backward)


def _kernel_gradient(x: jax.Array, slope: jax.Array, taps: tuple[int, ...]) -> jax.Array:
    together = next(n for n in range(min(_UNROLLED, len(x)), 0, -1) if len(x) % n == 0)
    parts = [leaf.reshape(-1, together, *leaf.shape[1:]) for leaf in (x, slope)]

    def add(totals: tuple, pair: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
        images, slopes = pair
        windows = _windows(images, taps)
        found = []
        for total, (_, window) in zip(totals, windows, strict=True):
            for image in range(together):
                total = total + window[image] * slopes[image]
            found.append(total)
        return tuple(found), None

    zeros = tuple(jnp.zeros_like(slope[0]) for _ in np.ndindex(*taps))
    totals, _ = jax.lax.scan(add, zeros, tuple(parts))
    pixels = tuple(range(slope.ndim - 2))
    return jnp.stack([total.sum(pixels) for total in totals]).reshape(*taps, -1)
