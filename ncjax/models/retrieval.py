"""Small networks that score texts against texts: a dual encoder and a cross-encoder.

Texts are as in `ncjax.models.text`, relaxed or not. Both return scores of all pairs, `[n, m]`.

Both begin as a comparison of the words that two texts share, rarer words weighing more: projections
begin as the identity, word vectors are nearly orthogonal, and the weight of a word as the logarithm
of its rank. Words are numbered by falling frequency (`ncjax.data.wordnet.vocabulary`), so that this
stands for its inverse document frequency.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax.models.text import Words, averaged, word_weights


class DualEncoder(nn.Module):
    """Unit vectors of queries and of passages; scores are their inner products, scaled.

    Word vectors are shared, weighted by a learned weight of each word.

    Attributes:
        vocabulary: V.
        dim: of the vectors.
    """

    vocabulary: int
    dim: int = 64

    def setup(self) -> None:
        """Word vectors, with a last coordinate for their weight, and a projection of each side."""
        self.words = Words(self.vocabulary, self.dim + 1, _by_rank)
        self.of_query = nn.Dense(self.dim, kernel_init=_identity)
        self.of_passage = nn.Dense(self.dim, kernel_init=_identity)
        self.log_scale = self.param("log_scale", nn.initializers.constant(2.0), (), jnp.float32)

    def __call__(self, queries: Any, passages: Any) -> Float[Array, "n m"]:
        """Scores of texts `[n, L]` against texts `[m, L']`."""
        near = self.query(queries) @ self.passage(passages).T
        return jnp.exp(self.log_scale) * near

    def query(self, x: Any) -> Float[Array, "n d"]:
        """Vectors of queries."""
        return _unit(self.of_query(self._read(x)))

    def passage(self, x: Any) -> Float[Array, "m d"]:
        """Vectors of passages."""
        return _unit(self.of_passage(self._read(x)))

    def _read(self, x: Any) -> jax.Array:
        return averaged(*_weighed(self.words, x))


class CrossEncoder(nn.Module):
    """Words of a query attend to those of a passage; what they find says how well it fits.

    A score is the weighted mean, over words of the query, of how like they are to what they find,
    and a learned function of both.

    Attributes:
        vocabulary: V.
        dim: of word vectors, and hidden units.
    """

    vocabulary: int
    dim: int = 64

    @nn.compact
    def __call__(self, queries: Any, passages: Any) -> Float[Array, "n m"]:
        """Scores of texts `[n, L]` against texts `[m, L']`."""
        words = Words(self.vocabulary, self.dim + 1, _by_rank, name="words")
        asked, weights = _weighed(words, queries)
        given, _ = _weighed(words, passages)
        asked, given = (nn.Dense(self.dim, kernel_init=_identity)(x) for x in (asked, given))
        likeness = jnp.einsum("nid,mjd->nmij", asked, given) / jnp.sqrt(self.dim)
        there = word_weights(passages)[None, :, None, :]
        attention = nn.softmax(likeness + jnp.log(jnp.maximum(there, 1e-9)))
        found = jnp.einsum("nmij,mjd->nmid", attention, given)
        compared = nn.relu(nn.Dense(self.dim)(asked)[:, None] * found)
        nearest = (attention * likeness).sum(-1)
        total = jnp.maximum(weights.sum(1), 1e-6)[:, None]
        hidden = jnp.einsum("ni,nmid->nmd", weights, compared) / total[..., None]
        return nn.Dense(1)(hidden)[..., 0] + jnp.einsum("ni,nmi->nm", weights, nearest) / total


def _weighed(words: Words, x: Any) -> tuple[jax.Array, jax.Array]:
    """Vectors of words, and their weights."""
    vectors = words(x)
    return vectors[..., :-1], word_weights(x) * nn.softplus(vectors[..., -1])


def _by_rank(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Random vectors; in the last coordinate the logarithm of a word's rank, little if unknown."""
    rank = jnp.log(jnp.maximum(jnp.arange(shape[0], dtype=dtype), 2))
    weight = jnp.where(jnp.arange(shape[0]) < 2, -3.0, rank)
    return jax.random.normal(key, shape, dtype).at[:, -1].set(weight)


def _identity(_: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.eye(*shape, dtype=dtype)


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
