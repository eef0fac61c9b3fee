"""Small networks for short texts: classifiers, and a denoising autoencoder.

Texts are word numbers, int `[N, L]`, 0 for padding (`ncjax.data.wordnet`); or relaxed ones, a
distribution over the vocabulary at each place, `[N, L, V]`, so that gradients reach them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax.models.heads import NAME, Head, HeadKind
from ncjax.models.normalisation import BatchNorm
from ncjax.types import AnyArray

Reader = Literal["bag", "convolution"]
PADDING = 0


def word_weights(x: AnyArray) -> jax.Array:
    """1 where there is a word, 0 at padding, `[N, L]`; of relaxed texts, the share of words."""
    x = jnp.asarray(x)
    if x.ndim == 2:
        return (x != PADDING).astype(jnp.float32)
    return 1 - x[..., PADDING]


class Words(nn.Module):
    """Vectors of words, zero at padding.

    Attributes:
        vocabulary: V.
        dim: of a vector.
        start: of the table.
    """

    vocabulary: int
    dim: int
    start: nn.initializers.Initializer = nn.initializers.normal(1.0)

    def setup(self) -> None:
        """The table."""
        shape = (self.vocabulary, self.dim)
        self.table = self.param("table", self.start, shape, jnp.float32)

    def __call__(self, x: AnyArray) -> Float[Array, "N L d"]:
        """Of texts, relaxed or not."""
        x, table = jnp.asarray(x), jnp.asarray(self.table)
        vectors = table[x] if x.ndim == 2 else x @ table
        return vectors * word_weights(x)[..., None]

    def likeness(self, vectors: Float[AnyArray, "N L d"]) -> Float[Array, "N L V"]:
        """How like each word of the vocabulary vectors are: logits of words."""
        return vectors @ self.table.T / jnp.sqrt(self.dim)


class TextClassifier(nn.Module):
    """A mean of word vectors, or of what convolutions find in them; dense layers; a head.

    Attributes:
        num_classes: K.
        vocabulary: V.
        dim: of word vectors.
        widths: of the dense layers; the last is the feature dimension.
        reader: "bag": the mean of word vectors; "convolution": mean and largest of channels, as
            many as `dim`, of windows of three words, beside that.
        head: "learned" or "etf".
        head_bias: whether the head has a bias.
        axis_name: over which batch statistics are shared.
    """

    num_classes: int
    vocabulary: int
    dim: int = 64
    widths: Sequence[int] = (64,)
    reader: Reader = "bag"
    head: HeadKind = "learned"
    head_bias: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "N L V"] | Any, *, train: bool = False
    ) -> tuple[Float[Array, "N K"], Float[Array, "N d"]]:
        """Logits and features of a batch.

        Args:
            x: texts, `[N, L]` or `[N, L, V]`.
            train: as in `MLP`.
        """
        vectors, weights = Words(self.vocabulary, self.dim, name="words")(x), word_weights(x)
        features = averaged(vectors, weights)
        if self.reader == "convolution":
            found = nn.relu(nn.Dense(self.dim)(windows(vectors))) * weights[..., None]
            features = jnp.concatenate([features, averaged(found, weights), found.max(1)], axis=1)
        for layer, width in enumerate(self.widths):
            features = nn.Dense(width, use_bias=False)(features)
            norm = BatchNorm(use_running_average=not train, axis_name=self.axis_name)
            features = nn.relu(norm(features))
            self.sow("intermediates", f"layer_{layer}", features)
        return Head(self.num_classes, self.head, self.head_bias, name=NAME)(features), features


class TextAutoencoder(nn.Module):
    """Texts to points and back, all words at once.

    Attributes:
        num_classes: K, for the engine's sake.
        vocabulary: V.
        length: L.
        dim: d, of the latent space.
        width: dimensions of word vectors, and hidden channels.
    """

    num_classes: int
    vocabulary: int
    length: int
    dim: int = 64
    width: int = 128
    variational = conditional = False

    def setup(self) -> None:
        """Both halves, which share word vectors."""
        self.words = Words(self.vocabulary, self.width)
        self.reading = nn.Dense(self.width)
        self.encoding = nn.Dense(self.dim)
        shape = (self.length, self.width)
        self.places = self.param("places", nn.initializers.normal(1.0), shape, jnp.float32)
        self.decoding = nn.Dense(self.length * self.width)
        self.writing = [nn.Dense(self.width) for _ in range(2)]

    def __call__(self, x: Any, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Logits of all words, flattened `[N, L V]`, and latent points `[N, d]`."""
        del train
        z = self.encode(x)
        return self.decode(z).reshape(len(z), -1), z

    def encode(self, x: Any) -> Float[Array, "N d"]:
        """Latent points of texts, relaxed or not."""
        vectors, weights = self.words(x), word_weights(x)
        ordered = (vectors + self.places[None]) * weights[..., None]
        found = nn.relu(self.reading(windows(ordered))) * weights[..., None]
        return self.encoding(jnp.concatenate([averaged(found, weights), found.max(1)], axis=1))

    def decode(self, z: Float[AnyArray, "N d"]) -> Float[Array, "N L V"]:
        """Logits of the word at each place."""
        hidden = self.decoding(jnp.asarray(z)).reshape(len(z), self.length, self.width)
        for layer in self.writing:
            hidden = hidden + nn.relu(layer(windows(hidden)))
        return self.words.likeness(hidden)


def averaged(
    vectors: Float[AnyArray, "N L d"], weights: Float[AnyArray, "N L"]
) -> Float[Array, "N d"]:
    """Weighted means over places; zero for texts without a word."""
    total = jnp.maximum(weights.sum(1), 1e-6)[:, None]
    return (vectors * weights[..., None]).sum(1) / total


def windows(vectors: Float[AnyArray, "N L d"]) -> Float[Array, "N L e"]:
    """Each place with those before and after it, `[N, L, 3 d]`: a product with it convolves.

    A convolution of one axis is slow on CPUs, a product of matrices is not.
    """
    padded = jnp.pad(jnp.asarray(vectors), ((0, 0), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=-1)
