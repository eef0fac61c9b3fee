"""Random crops and flips, on the device, inside the training step."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Shaped

from ncjax.types import AnyArray

Augmentation = Literal["none", "crop", "crop_flip"]
AUGMENTATIONS: tuple[str, ...] = ("none", "crop", "crop_flip")


def augment(
    keys: Key[Array, " N"], images: Shaped[AnyArray, "N H W ..."], kind: Augmentation
) -> Shaped[jax.Array, "N H W ..."]:
    """Each image moved at random over a black border, and mirrored half of the time.

    Args:
        keys: one typed key an image, so that what becomes of it depends on no other.
        images: uint8 or float, with or without channels.
        kind: "none"; "crop": padded by an eighth of its side (4 pixels of 32) and cropped back;
            "crop_flip": and mirrored left to right.
    """
    images = jnp.asarray(images)
    if kind == "none":
        return images
    pad = max(1, round(images.shape[1] / 8))

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        of_crop, of_flip = jax.random.split(key)
        border = ((pad, pad), (pad, pad)) + ((0, 0),) * (image.ndim - 2)
        corner = jax.random.randint(of_crop, (2,), 0, 2 * pad + 1)
        start = (corner[0], corner[1]) + (0,) * (image.ndim - 2)
        moved = jax.lax.dynamic_slice(jnp.pad(image, border), start, image.shape)
        if kind == "crop":
            return moved
        return jnp.where(jax.random.bernoulli(of_flip), moved[:, ::-1], moved)

    return jax.vmap(one)(keys, images)
