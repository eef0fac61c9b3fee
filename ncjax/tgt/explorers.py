r"""Where to look for training inputs: around real ones, in a generator's latent space (2208.06825).

The paper has no public code; what is here is our reading of it. In units of the latent space's
standard deviations, :math:`u = z / scale`:

* prior: :math:`\mathrm{Dec}(z)`, z from the generator's prior;
* random: :math:`\mathrm{Dec}(\mathrm{Enc}(x) + \nu)`, isotropic normal :math:`\nu`;
* gradient: some steps of fixed length up the disagreement of student and labeler from there.

Each example has a key of its own, so results depend neither on the batch nor on the devices. What
is explored is data: no gradient passes through it.

Examples:
    >>> from ncjax import data, tgt
    >>> digits = data.load("digits")
    >>> generator = tgt.principal(digits.images, dim=16)
    >>> keys = jax.random.split(jax.random.key(0), 8)
    >>> random(keys, digits.images[:8], generator, radius=0.3).x.shape
    (8, 8, 8)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from ncjax.tgt.objective import disagreement
from ncjax.tgt.protocols import Generator, Labeler, hardened
from ncjax.types import AnyArray, Scalar

Student = Callable[[Any], jax.Array]
"""`x [n, ...] -> logits [n, K]`, in inference mode: rows must not depend on each other."""
BOUND = 4.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Explored:
    """Generated examples.

    Attributes:
        x: `[n, ...]`.
        z: their latent points, `[n, d]`.
        start: the latent points that they were made from: of the seeds, or z itself.
    """

    x: Array
    z: Array
    start: Array


def prior(keys: jax.Array, generator: Generator) -> Explored:
    """Examples of the generator's prior.

    Args:
        keys: one an example, `[n]`.
        generator: the teacher's.
    """
    z = jax.vmap(generator.sample)(keys)
    return _explored(generator, z, z)


def random(
    keys: jax.Array,
    x: Shaped[AnyArray, "n ..."],
    generator: Generator,
    *,
    radius: Scalar = 0.3,
    bound: Scalar = BOUND,
) -> Explored:
    """Examples around others: isotropic noise in the latent space.

    Args:
        keys: one an example, `[n]`.
        x: seeds.
        generator: the teacher's.
        radius: standard deviation of the noise, in standard deviations of the latent space.
        bound: no coordinate goes further out than so many deviations, or than the seed's if that is
            further.
    """
    start = generator.encode(x)
    return _explored(generator, _noisy(keys, start, generator, radius, bound), start)


def gradient(
    keys: jax.Array,
    x: Shaped[AnyArray, "n ..."],
    generator: Generator,
    student: Student,
    labeler: Labeler,
    *,
    radius: Scalar = 0.1,
    length: Scalar = 0.3,
    steps: int = 3,
    bound: Scalar = BOUND,
    temperature: Scalar = 1.0,
) -> Explored:
    """Examples on which student and labeler disagree: gradient ascent in the latent space.

    Args:
        keys: one an example, `[n]`.
        x: seeds.
        generator: the teacher's.
        student: as it is now.
        labeler: the teacher's.
        radius: of the noise at the start, as in `random`.
        length: of a step, whatever its gradient: a Euclidean length in standard deviations of the
            latent space.
        steps: of ascent; few, or examples turn adversarial.
        bound: as in `random`.
        temperature: at which they disagree.
    """
    scale = jnp.asarray(generator.scale)[None]
    start = generator.encode(x)

    def total(u: jax.Array) -> jax.Array:
        decoded = generator.decode(u * scale)
        return disagreement(student(decoded), labeler(decoded), temperature).sum()

    def ascend(_: AnyArray, u: jax.Array) -> jax.Array:
        slope = jax.grad(total)(u)
        norm = jnp.linalg.norm(slope, axis=-1, keepdims=True)
        direction = slope / jnp.where(norm > 0, norm, 1)
        return _bounded(u + length * direction, start / scale, bound)

    u = _noisy(keys, start, generator, radius, bound) / scale
    return _explored(generator, jax.lax.fori_loop(0, steps, ascend, u) * scale, start)


def input_noise(
    keys: jax.Array,
    x: Shaped[AnyArray, "n ..."],
    generator: Generator,
    *,
    radius: Scalar = 0.3,
    bound: Scalar = BOUND,
) -> Shaped[Array, "n ..."]:
    """Seeds moved in a random direction as far as `random` moves them: what it is compared with.

    Of texts, word numbers `[n, L]`, as many words are replaced as `random` changes, at random
    places, by words drawn evenly from the vocabulary.

    Args:
        keys: one an example, `[n]`.
        x: seeds.
        generator: the teacher's.
        radius: as in `random`.
        bound: as in `random`.
    """
    x = jnp.asarray(x)
    flat = x.reshape(len(x), -1)
    moved = random(keys, x, generator, radius=radius, bound=bound).x
    fresh = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
    if jnp.issubdtype(x.dtype, jnp.integer):
        vocabulary = jax.eval_shape(generator.decode, generator.encode(x)).shape[-1]
        return jax.vmap(_reworded, (0, 0, 0, None))(fresh, x, (moved != x).sum(-1), vocabulary)
    away = moved.reshape(flat.shape) - flat
    noise = jax.vmap(lambda key: jax.random.normal(key, flat.shape[1:], flat.dtype))(fresh)
    far, norm = (jnp.linalg.norm(part, axis=-1, keepdims=True) for part in (away, noise))
    return jax.lax.stop_gradient(x + (noise * far / norm).reshape(x.shape))


def mixup(
    keys: jax.Array,
    x: Shaped[AnyArray, "n ..."],
    others: Shaped[AnyArray, "n ..."],
    *,
    alpha: Scalar = 1.0,
) -> Shaped[Array, "n ..."]:
    """Points between pairs of examples (1710.09412), for a labeler to label.

    Of texts, word numbers `[n, L]`, each place is drawn from the mixture: it has the word of either
    text, with the odds of the share.

    Args:
        keys: one an example, `[n]`.
        x: examples.
        others: their partners.
        alpha: of the Beta distribution that the share is drawn from.
    """
    x, others = jnp.asarray(x), jnp.asarray(others)
    words = jnp.issubdtype(x.dtype, jnp.integer)
    dtype = jnp.result_type(float) if words else x.dtype
    share = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=dtype))(keys)
    if words:
        fresh = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        own = jax.vmap(lambda key, p: jax.random.bernoulli(key, p, x.shape[1:]))(fresh, share)
        return jnp.where(own, x, others)
    share = share.reshape(-1, *(1,) * (x.ndim - 1))
    return share * x + (1 - share) * others


def _reworded(key: jax.Array, x: jax.Array, count: jax.Array, vocabulary: int) -> jax.Array:
    """A text with so many of its places taken by random words."""
    places, words = jax.random.split(key)
    rank = jax.random.permutation(places, len(x))
    drawn = jax.random.randint(words, x.shape, 0, vocabulary, x.dtype)
    return jnp.where(rank < count, drawn, x)


def _noisy(
    keys: jax.Array, start: jax.Array, generator: Generator, radius: Scalar, bound: Scalar
) -> jax.Array:
    scale = jnp.asarray(generator.scale)[None]
    noise = jax.vmap(lambda key: jax.random.normal(key, start.shape[1:], start.dtype))(keys)
    u = start / scale
    return _bounded(u + radius * noise, u, bound) * scale


def _bounded(u: jax.Array, seed: jax.Array, bound: Scalar) -> jax.Array:
    limit = jnp.maximum(jnp.abs(seed), bound)
    return jnp.clip(u, -limit, limit)


def _explored(generator: Generator, z: jax.Array, start: jax.Array) -> Explored:
    x = hardened(generator, generator.decode(z))
    return jax.lax.stop_gradient(Explored(x, z, start))
