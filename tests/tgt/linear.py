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
