"""A teacher simple enough to know what it should do: two coordinates of four, and plain logits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

AXES = np.array([[1, 1, 0, 0], [0, 0, 1, -1]], np.float32) / np.sqrt(2, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Linear:
    """An orthonormal plane; the second coordinate varies twice as much."""

    scale: np.ndarray = dataclasses.field(default_factory=lambda: np.array([1, 2], np.float32))

    def encode(self, x):
        return jnp.asarray(x) @ AXES.T

    def decode(self, z):
        return jnp.asarray(z) @ AXES

    def sample(self, key):
        return jnp.asarray(self.scale) * jax.random.normal(key, (2,))


def labeler(x):
    return 3 * jnp.asarray(x)[:, :3]


def student(x):
    return jnp.asarray(x)[:, 1:] ** 2


x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
keys = jax.random.split(jax.random.key(0), 12)


@dataclasses.dataclass(frozen=True)
class Spelled:
    """Texts of three words of a vocabulary of five: one latent coordinate a place."""

    scale: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(3, np.float32))

    def encode(self, x):
        x = jnp.asarray(x)
        numbers = x if x.ndim == 2 else x.argmax(-1)
        return numbers.astype(jnp.float32) - 2

    def decode(self, z):
        off = jnp.asarray(z)[..., None] - jnp.arange(-2.0, 3.0)[None, None]
        return jax.nn.softmax(-8 * jnp.square(off))

    def harden(self, x):
        return jnp.asarray(x).argmax(-1).astype(jnp.int32)

    def sample(self, key):
        return jax.random.normal(key, (3,))


texts = np.random.default_rng(1).integers(0, 5, (12, 3)).astype(np.int32)


def read(x):
    """Logits of the share of words by number, of texts relaxed or not."""
    x = jnp.asarray(x)
    return 3 * (jax.nn.one_hot(x, 5) if x.ndim == 2 else x).mean(1)[:, :3]
