"""A small generative adversarial network for images (after DCGAN, 1511.06434)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax.models.convolutions import Convolution
from ncjax.models.layers import Layer, Norm
from ncjax.models.normalisation import BatchNorm
from ncjax.types import AnyArray


class Generator(nn.Module):
    """From noise to images, through a quarter and a half of their height and width.

    Attributes:
        width: channels at a half; twice as many at a quarter.
        channels: of the images.
        convolution: how to convolve.
        size: height and width of the images.
        axis_name: over which batch statistics are shared.
    """

    width: int = 32
    channels: int = 1
    convolution: Convolution = "native"
    size: tuple[int, int] = (28, 28)
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z: Float[AnyArray, "N d"], *, train: bool) -> Float[Array, "N H W C"]:
        """Images between 0 and 1.

        Args:
            z: standard normal.
            train: normalise by the batch.
        """
        height, width = (-(-side // 4) for side in self.size)
        x = nn.Dense(height * width * 2 * self.width, use_bias=False)(jnp.asarray(z))
        x = x.reshape(len(z), height, width, 2 * self.width)
        x = nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))
        for width, norm in ((self.width, "batch"), (self.channels, "none")):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            settings = (train, jnp.float32, self.axis_name, self.convolution, norm)
            x = Layer(width, 5, 1, *settings)(x)
            x = nn.relu(x) if norm == "batch" else nn.sigmoid(x)
        return x[:, : self.size[0], : self.size[1]]


class Discriminator(nn.Module):
    """From images to a number, positive for those that look real.

    Attributes:
        norm: of its convolutions.
        width: channels at 14 x 14; twice as many at 7 x 7.
        convolution: how to convolve.
    """

    norm: Norm = "none"
    width: int = 32
    convolution: Convolution = "native"

    @nn.compact
    def __call__(self, x: Float[AnyArray, "N H W C"], *, train: bool) -> Float[Array, " N"]:
        """Of images between 0 and 1.

        Args:
            x: images.
            train: of what the norm keeps.
        """
        x = 2 * jnp.asarray(x) - 1
        for width in (self.width, 2 * self.width):
            layer = Layer(width, 5, 2, train, jnp.float32, None, self.convolution, self.norm)
            x = nn.leaky_relu(layer(x), 0.2)
        return nn.Dense(1)(x.reshape(len(x), -1))[:, 0]


def hinge_losses(real: AnyArray, fake: AnyArray) -> tuple[jax.Array, jax.Array]:
    """Of discriminator and generator (1705.02894): margins of 1, and the fakes' scores.

    Args:
        real: scores of real images.
        fake: of generated ones.
    """
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    return nn.relu(1 - real).mean() + nn.relu(1 + fake).mean(), -fake.mean()
