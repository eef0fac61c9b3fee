"""Convolutional autoencoders, plain and variational, and conditional on classes or not."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax.models.convolutions import Convolution
from ncjax.models.gan import Generator
from ncjax.models.layers import Layer
from ncjax.types import AnyArray


class Autoencoder(nn.Module):
    """Two strided convolutions to a latent space, and `ncjax.models.gan.Generator` back.

    Attributes:
        num_classes: K.
        size: height, width and channels of images.
        dim: d, of the latent space.
        width: channels at half the height and width; twice as many at a quarter.
        variational: encode to normal distributions (1312.6114), else to points.
        conditional: tell encoder and decoder the class.
        axis_name: over which batch statistics are shared.
        convolution: how to convolve.
    """

    num_classes: int
    size: tuple[int, int, int]
    dim: int = 16
    width: int = 32
    variational: bool = True
    conditional: bool = False
    axis_name: str | None = None
    convolution: Convolution = "native"

    def setup(self) -> None:
        """Both halves."""
        common = {"axis_name": self.axis_name, "convolution": self.convolution}
        height, width, channels = self.size
        self.encoder = Encoder(self.dim, self.width, self.variational, **common)
        self.decoder = Generator(self.width, channels, size=(height, width), **common)

    def __call__(self, x: Any, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """What the objective needs of images, and their latent points.

        Args:
            x: images `[N, ...]` between 0 and 1, or a tuple of images, labels `[N]` and standard
                normal noise `[N, d]`; without these, no class and no noise.
            train: as in `MLP`.

        Returns:
            `[N, D + 1]`, the flattened reconstruction of D numbers and the divergence of the
            encoding from a standard normal (0 unless variational), and means `[N, d]`.
        """
        images, labels, noise = x if isinstance(x, tuple) else (x, None, None)
        mean, log_variance = self._encoded(images, labels, train)
        z, divergence = mean, jnp.zeros(len(mean))
        if self.variational:
            variance = jnp.exp(log_variance)
            divergence = (variance + jnp.square(mean) - 1 - log_variance).sum(-1) / 2
            z = mean if noise is None else mean + jnp.sqrt(variance) * noise
        decoded = self.decode(z, labels, train=train)
        flat = decoded.reshape(len(decoded), -1)
        return jnp.concatenate([flat, divergence[:, None]], axis=1), mean

    def encode(self, x: Float[AnyArray, "N ..."], labels: AnyArray | None = None) -> jax.Array:
        """Means `[N, d]` of images, in inference mode."""
        return self._encoded(x, labels, False)[0]

    def decode(
        self, z: Float[AnyArray, "N d"], labels: AnyArray | None = None, *, train: bool = False
    ) -> Float[Array, "N H W C"]:
        """Images between 0 and 1 of latent points."""
        z = jnp.asarray(z)
        if self.conditional:
            z = jnp.concatenate([z, self._one_hot(labels, len(z))], axis=1)
        return self.decoder(z, train=train)

    def _encoded(
        self, x: AnyArray, labels: AnyArray | None, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        images = jnp.asarray(x).reshape(len(x), *self.size)
        if self.conditional:
            planes = self._one_hot(labels, len(images))[:, None, None]
            planes = jnp.broadcast_to(planes, (*images.shape[:3], self.num_classes))
            images = jnp.concatenate([images, planes], axis=-1)
        return self.encoder(images, train=train)

    def _one_hot(self, labels: AnyArray | None, count: int) -> jax.Array:
        if labels is None:
            return jnp.zeros((count, self.num_classes))
        return jax.nn.one_hot(labels, self.num_classes)


class Encoder(nn.Module):
    """Images to means and logarithms of variances.

    Attributes:
        dim: of the latent space.
        width: of the first convolution; the second has twice as many channels.
        variational: whether there are variances; they are 1 otherwise.
        axis_name: over which batch statistics are shared.
        convolution: how to convolve.
    """

    dim: int
    width: int
    variational: bool
    axis_name: str | None = None
    convolution: Convolution = "native"

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "N H W C"], *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Of images `[N, H, W, C]`: both `[N, d]`."""
        x = jnp.asarray(x)
        for width in (self.width, 2 * self.width):
            settings = (train, jnp.float32, self.axis_name, self.convolution)
            x = nn.relu(Layer(width, 3, 2, *settings)(x))
        both = nn.Dense((1 + self.variational) * self.dim)(x.reshape(len(x), -1))
        mean, log_variance = both[:, : self.dim], both[:, self.dim :]
        return mean, log_variance if self.variational else jnp.zeros_like(mean)
