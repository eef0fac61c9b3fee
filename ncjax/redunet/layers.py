"""A layer of ReduNet, and the construction of a network of them (2105.10446, algorithm 1)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ncjax.redunet.operators import Operators, from_samples
from ncjax.redunet.rates import rates_of
from ncjax.redunet.spectra import Spectra

_SMALLEST_NORM = 1e-8


@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """What all layers share.

    Attributes:
        eps: precision of the rates.
        step: eta, of the ascent.
        sharpness: lambda of the soft assignment: 500 (official code; 5000 in older scripts) makes
            it nearly hard.
    """

    eps: float = 0.1**0.5
    step: float = 0.5
    sharpness: float = 500.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Monitor:
    """What is seen of the features that go into each layer, `[L]` each.

    Attributes:
        rate: R.
        class_rate: R_c with the true labels.
        agreement: share of samples that the layer assigns to their own class.
    """

    rate: jax.Array
    class_rate: jax.Array
    agreement: jax.Array


def normalised(spectra: Spectra) -> Spectra:
    """Every sample on the unit sphere, over all channels and positions."""
    norms = jnp.maximum(spectra.norms(), _SMALLEST_NORM)
    return spectra.replace(spectra.values / norms[None, :, None].astype(spectra.values.dtype))


def assignment(
    operators: Operators, compressed: jax.Array, spectra: Spectra, config: LayerConfig
) -> jax.Array:
    """The soft assignment: softmax of -lambda ||C^j z|| over classes with samples, `[K, N]`."""
    squares = jnp.square(jnp.abs(compressed)).sum(-1)
    norms = jnp.sqrt(jnp.einsum("f,kfn->kn", spectra.square_weights, squares))
    scores = -config.sharpness * jnp.maximum(norms, _SMALLEST_NORM)
    return jax.nn.softmax(jnp.where(operators.shares[:, None] > 0, scores, -jnp.inf), axis=0)


def layer(operators: Operators, spectra: Spectra, config: LayerConfig) -> tuple[Spectra, jax.Array]:
    """A layer, of construction and of inference alike.

    Returns:
        The features that come out, and the soft assignment of those that went in, `[K, N]`.
    """
    compressed = operators.compress(spectra.values)
    assigned = assignment(operators, compressed, spectra, config)
    weights = operators.shares[:, None] * assigned
    pulled = jnp.einsum("kn,kfnc->fnc", weights.astype(compressed.dtype), compressed)
    moved = spectra.values + config.step * (operators.expand(spectra.values) - pulled)
    return normalised(spectra.replace(moved)), assigned


def construct(
    spectra: Spectra, places: jax.Array, labels: jax.Array, config: LayerConfig, num_layers: int
) -> tuple[Spectra, Operators, Monitor]:
    """Builds a network forward, layer by layer, from labelled samples.

    Args:
        spectra: of the samples, normalised.
        places: see `operators.from_samples`.
        labels: class indices `[N]`.
        config: of all layers.
        num_layers: L.

    Returns:
        The samples' features at the end, the operators of all layers stacked, and what was seen.
    """

    def step(features: Spectra, _: None) -> tuple[Spectra, tuple[Operators, Monitor]]:
        operators = from_samples(features, places, config.eps)
        after, assigned = layer(operators, features, config)
        rate, class_rate = rates_of(features, places, config.eps)
        agreement = (assigned.argmax(0) == labels).mean(dtype=rate.dtype)
        return after, (operators, Monitor(rate, class_rate, agreement))

    after, (operators, monitor) = jax.lax.scan(step, spectra, None, length=num_layers)
    return after, operators, monitor


def transform(
    operators: Operators, spectra: Spectra, config: LayerConfig
) -> tuple[Spectra, jax.Array]:
    """Passes samples through a network; the assignment is the last layer's, `[K, N]`.

    Args:
        operators: of all layers, stacked.
        spectra: of the samples, normalised.
        config: the one it was built with.
    """

    def step(carry: tuple[Spectra, jax.Array], one: Operators) -> tuple[tuple, None]:
        return layer(one, carry[0], config), None

    nothing = jnp.zeros(
        (operators.shares.shape[-1], spectra.values.shape[1]), spectra.weights.dtype
    )
    return jax.lax.scan(step, (spectra, nothing), operators)[0]
