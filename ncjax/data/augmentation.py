"""Random crops, flips and stronger changes, on the device, inside the training step."""

from __future__ import annotations

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Shaped

from ncjax.types import AnyArray

Augmentation = Literal["none", "crop", "crop_flip"]
AUGMENTATIONS: tuple[str, ...] = ("none", "crop", "crop_flip")
TURN = math.pi / 6
"""Of `strongly_augmented`: the largest angle,"""
SHEAR = 0.3
"""shear,"""
LIGHT = 0.5
"""and share that contrast and, in standard deviations, brightness change by."""


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


def strongly_augmented(
    keys: Key[Array, " N"], images: Shaped[AnyArray, "N H W ..."]
) -> Shaped[jax.Array, "N H W ..."]:
    """Each image turned, sheared, moved, changed in contrast and brightness, a square cut out.

    The strong view of consistency terms: milder than the AutoAugment that papers use, and fit for
    grey images too. The square, half a side wide as in Cutout, has the image's mean.

    Args:
        keys: one typed key an image.
        images: uint8 or float, with or without channels.
    """
    images = jnp.asarray(images)
    with_channels = images.astype(jnp.float32).reshape(*images.shape[:3], -1)

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        for change in (_turned, _lit, _cut):
            key, own = jax.random.split(key)
            image = change(own, image)
        return image

    found = jax.vmap(one)(keys, with_channels).reshape(images.shape)
    if images.dtype == jnp.uint8:
        found = jnp.clip(jnp.round(found), 0, 255)
    return found.astype(images.dtype)


def _turned(key: Key[Array, ""], image: jax.Array) -> jax.Array:
    """Turned and sheared about the middle, and moved, by interpolation; black beyond the border."""
    angle, shear, down, right = jax.random.uniform(key, (4,), jnp.float32, -1)
    angle, (height, width) = TURN * angle, image.shape[:2]
    rows, columns = jnp.meshgrid(*map(_from_middle, (height, width)), indexing="ij")
    rows = rows + SHEAR * shear * columns
    places = (
        jnp.cos(angle) * rows - jnp.sin(angle) * columns + (height - 1) / 2 + down * height / 8,
        jnp.sin(angle) * rows + jnp.cos(angle) * columns + (width - 1) / 2 + right * width / 8,
    )
    at_places = functools.partial(jax.scipy.ndimage.map_coordinates, order=1)
    return jax.vmap(lambda channel: at_places(channel, places), -1, -1)(image)


def _lit(key: Key[Array, ""], image: jax.Array) -> jax.Array:
    contrast, brightness = LIGHT * jax.random.uniform(key, (2,), jnp.float32, -1)
    mean, deviation = image.mean(), image.std()
    return mean + brightness * deviation + (1 + contrast) * (image - mean)


def _cut(key: Key[Array, ""], image: jax.Array) -> jax.Array:
    places = jax.random.uniform(key, (2,), jnp.float32) - 0.5
    rows, columns = (
        jnp.abs(_from_middle(size) - place * size) < size / 4
        for size, place in zip(image.shape[:2], places, strict=True)
    )
    return jnp.where((rows[:, None] & columns[None, :])[..., None], image.mean(), image)


def _from_middle(size: int) -> jax.Array:
    return jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
