"""What teacher-guided training asks of a teacher: a generator and a labeler."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks
from ncjax.types import AnyArray

Labeler = Callable[[Any], jax.Array]
"""`x [n, ...] -> [n, K]`: logits, or log-probabilities up to a constant of each example."""
_TRIED = 8


@runtime_checkable
class Generator(Protocol):
    """Between data and a latent space, both ways; methods are traced by JAX.

    Latent coordinates of the data have mean zero. A conditional one has `given(labels)` too, the
    generator of examples of those classes, int `[n]`, one for each row that it will be used on. One
    of discrete examples decodes relaxed ones, which student and labeler take as well and gradients
    pass through, and has `harden(x)`, which makes of them examples as the data are.
    """

    @property
    def scale(self) -> AnyArray:
        """Standard deviation of each latent coordinate over the data, `[d]`."""
        ...

    def encode(self, x: Any) -> jax.Array:
        """Examples `[n, ...]` to latent points `[n, d]`."""
        ...

    def decode(self, z: Any) -> jax.Array:
        """Latent points `[n, d]` to examples `[n, ...]`, as `encode` takes them."""
        ...

    def sample(self, key: jax.Array) -> jax.Array:
        """A latent point `[d]` of the prior."""
        ...


@dataclasses.dataclass(frozen=True)
class Guide:
    """A teacher.

    Attributes:
        generator: of inputs between 0 and 1 (`Dataset.unit`), or of arrays as they are.
        labeler: of the same inputs.
    """

    generator: Generator | None
    labeler: Labeler


def from_probabilities(probabilities: Callable[[Any], Any], smallest: float = 1e-12) -> Labeler:
    """A labeler from a function that returns class probabilities, `x [n, ...] -> [n, K]`.

    Args:
        probabilities: traced by JAX.
        smallest: probabilities below it count as this, so that their logarithms are finite.
    """
    return lambda x: jnp.log(jnp.maximum(jnp.asarray(probabilities(x)), smallest))


def given(generator: Generator, labels: AnyArray | None) -> Generator:
    """The generator of these classes, if it is a conditional one; else the generator itself."""
    conditioned = getattr(generator, "given", None)
    return generator if conditioned is None or labels is None else conditioned(labels)


def hardened(generator: Generator, x: Any) -> jax.Array:
    """Decoded examples as the data are, if the generator decodes relaxed ones; else as they are."""
    harden = getattr(generator, "harden", None)
    return x if harden is None else harden(x)


def check_guide(guide: Guide, x: AnyArray, num_classes: int) -> None:
    """Tries a teacher on a few examples.

    Args:
        guide: the teacher.
        x: examples `[N, ...]`, of which the first few are used.
        num_classes: K.

    Raises:
        InputError: a labeler with other classes, a latent space without width, points or examples
            of other shapes than they should have, or that are not finite.
    """
    x = jnp.asarray(x[:_TRIED])
    logits = _tried("labeler", guide.labeler, x, x)
    if np.shape(logits) != (len(x), num_classes):
        got = f"one that returns shape {np.shape(logits)} for {len(x)} examples"
        accepted = f"one of the {num_classes} classes of the data, shape [n, {num_classes}]"
        raise checks.reject("labeler", got, accepted)
    checks.check_finite("labeler", logits)
    if guide.generator is not None:
        _check_generator(guide.generator, x, logits.argmax(-1))


def _check_generator(generator: Generator, x: jax.Array, labels: jax.Array) -> None:
    scale = np.asarray(generator.scale)
    checks.check_finite("scale", scale)
    flat = np.flatnonzero(scale <= 0)
    if scale.ndim != 1 or len(flat):
        got = f"a generator whose scale has shape {scale.shape}"
        if scale.ndim == 1:
            got = f"a generator whose latent coordinates {flat[:10].tolist()} do not vary"
        remedy = "Give it fewer latent dimensions."
        raise checks.reject("generator", got, "one with scale [d] above zero", remedy)
    generator, d = given(generator, labels), len(scale)
    z = _tried("generator", generator.encode, x, x)
    _check_made("encodes", z, (len(x), d), x)
    _check_made("samples", generator.sample(jax.random.key(0)), (d,), x)
    decoded = _tried("generator", lambda z: hardened(generator, generator.decode(z)), z, x)
    _check_made("decodes", decoded, x.shape, x)
    if decoded.dtype != x.dtype:
        got = f"one that decodes {decoded.dtype} for examples of {x.dtype}"
        raise checks.reject("generator", got, "one that decodes what it encodes")


def _tried(what: str, fn: Callable[[Any], jax.Array], value: Any, x: jax.Array) -> jax.Array:
    """What a function of someone else's returns, its failure in our words."""
    try:
        return fn(value)
    except Exception as error:
        got = f"one that fails on examples of shape {x.shape[1:]} ({type(error).__name__}: {error})"
        remedy = "Was it made for other data?"
        raise checks.reject(what, got, "one for these examples", remedy) from error


def _check_made(what: str, array: jax.Array, shape: tuple[int, ...], x: jax.Array) -> None:
    if np.shape(array) != shape:
        got = f"one that {what} shape {np.shape(array)} for {len(x)} of shape {x.shape[1:]}"
        raise checks.reject("generator", got, f"one that {what} shape {shape} then")
    checks.check_finite(f"generator, which {what},", array)
