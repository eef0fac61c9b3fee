"""Images in polar coordinates: a rotation becomes a circular shift (2010.14765, section 4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Float, Num

from ncjax import checks
from ncjax.redunet.spectra import floating
from ncjax.types import AnyArray


def polar(
    images: Num[AnyArray, "N H W"], angles: int = 200, radii: int = 15
) -> Float[jax.Array, "N angles radii"]:
    """Samples images along rays from their centre, bilinearly.

    Angles divide the circle evenly, so that a rotation by one of them is a circular shift; the
    official code samples its first angle twice.

    Args:
        images: grey, `[N, H, W]`; integers become floats.
        angles: of rays.
        radii: points on a ray, from the centre to the nearest edge: the channels.

    Raises:
        InputError: another shape, NaN, or counts below 1.
    """
    checks.check_shape("images", images, (None, None, None), "[N, H, W]")
    checks.check_count("angles", angles, 1)
    checks.check_count("radii", radii, 1)
    checks.check_finite("images", images)
    images = floating(images)
    height, width = images.shape[1:]
    turns = 2 * np.pi * np.arange(angles) / angles
    lengths = np.linspace(0, (min(height, width) - 1) / 2, radii)
    rows = (height - 1) / 2 + np.sin(turns)[:, None] * lengths[None, :]
    columns = (width - 1) / 2 + np.cos(turns)[:, None] * lengths[None, :]
    places = [jnp.asarray(axis, images.dtype) for axis in (rows, columns)]
    return jax.vmap(lambda image: map_coordinates(image, places, order=1, mode="nearest"))(images)
