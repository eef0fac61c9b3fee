"""A layer of ReduNet, and the construction of a network of them (2105.10446, algorithm 1)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ncjax.redunet.operators import Operators, from_samples
from ncjax.redunet.spectra import SMALLEST_NORM, Spectra, complex_form, real_form
from ncjax.types import Scalar

BLOCK_BYTES = 2**28
"""Of the compressed features of a block of samples."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """What all layers share; may be traced.

    Attributes:
        eps: precision of the rates.
        step: eta, of the ascent.
        sharpness: lambda of the soft assignment: 500 (official code; 5000 in older scripts) makes
            it nearly hard.
    """

    eps: Scalar = 0.1**0.5
    step: Scalar = 0.5
    sharpness: Scalar = 500.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Monitor:
    """What is seen of the features that go into each layer, `[L]` each.

    Where construction ended on a plateau, also of those that the last layer gives out, `[L + 1]`.

    Attributes:
        rate: R.
        class_rate: R_c with the true labels.
        agreement: share of samples that the layer assigns to their own class; None where no
            samples were at hand.
    """

    rate: jax.Array
    class_rate: jax.Array
    agreement: jax.Array | None

    @property
    def reduction(self) -> np.ndarray:
        """Delta R, `[L]`."""
        return np.asarray(self.rate) - np.asarray(self.class_rate)

    @property
    def falls(self) -> np.ndarray:
        """The layers that let Delta R fall (by more than rounding), counted from 0.

        A smaller step helps. What the last layer does is seen only where a plateau ended it.
        """
        reduction = self.reduction
        rounding = 10 * np.finfo(reduction.dtype).eps * np.abs(np.asarray(self.rate)).max()
        return np.flatnonzero(np.diff(reduction) < -rounding)

    def settled(self, tolerance: float) -> int | None:
        """How many layers there are until Delta R no longer grows by this share of itself a layer.

        One that lets it fall (`falls`) ends it too.

        Args:
            tolerance: smallest relative growth that is worth a layer.

        Returns:
            The number, at least 1, or None if it grows by more to the end.
        """
        reduction = self.reduction
        small = np.diff(reduction) < tolerance * np.abs(reduction[:-1])
        return int(small.argmax()) + 1 if small.any() else None


def normalised(spectra: Spectra) -> Spectra:
    """Every sample on the unit sphere, over all channels and positions."""
    norms = spectra.norms()[None, :, None].astype(spectra.values.dtype)
    return spectra.replace(spectra.values / norms)


def layer(operators: Operators, spectra: Spectra, config: LayerConfig) -> tuple[Spectra, jax.Array]:
    """A layer, of construction and of inference alike.

    Returns:
        The features that come out, and the scores of those that went in, -lambda ||C^j z||, -inf
        for empty classes: their softmax is the soft assignment, `[K, N]`.
    """
    values = real_form(spectra.values)
    compressed, squares = operators.compress(values)
    squares = jnp.einsum("f,kfn->kn", spectra.square_weights, squares)
    scores = -config.sharpness * jnp.sqrt(jnp.maximum(squares, SMALLEST_NORM**2))
    scores = jnp.where(operators.shares[:, None] > 0, scores, -jnp.inf)

    def pull(total: jax.Array, one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + one[0][None, :, None] * one[1], None

    # A sum over the leading axis as XLA's CPU backend does it fast.
    weights = operators.shares[:, None] * jax.nn.softmax(scores, axis=0)
    zero = jnp.zeros_like(values)
    pulled, _ = jax.lax.scan(pull, zero, (weights, compressed), unroll=min(len(weights), 10))
    moved = values + config.step * (operators.expand(values) - pulled)
    after = spectra.replace(complex_form(moved, spectra.values.dtype))
    return normalised(after), scores


def layer_in_blocks(
    operators: Operators, spectra: Spectra, config: LayerConfig
) -> tuple[Spectra, jax.Array]:
    """A layer, of as many samples at once as a quarter of a gigabyte holds in all classes."""
    values, K = spectra.values, operators.shares.shape[0]
    F, N, C = values.shape
    size = max(1, BLOCK_BYTES // (K * F * C * values.dtype.itemsize))
    if size >= N:
        return layer(operators, spectra, config)

    def block(i: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = jnp.minimum(i * size, N - size)  # the last block overlaps the one before
        part = jax.lax.dynamic_slice_in_dim(values, start, size, 1)
        after, scores = layer(operators, spectra.replace(part), config)
        update = jax.lax.dynamic_update_slice_in_dim
        return update(done[0], after.values, start, 1), update(done[1], scores, start, 1)

    zeros = jnp.zeros_like(values), jnp.zeros((K, N), spectra.weights.dtype)
    moved, scores = jax.lax.fori_loop(0, -(-N // size), block, zeros)
    return spectra.replace(moved), scores


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
        built = from_samples(features, places, config.eps)
        after, scores = layer_in_blocks(built.operators, features, config)
        agreement = (scores.argmax(0) == labels).mean(dtype=built.rate.dtype)
        return after, (built.operators, Monitor(built.rate, built.class_rate, agreement))

    after, (operators, monitor) = jax.lax.scan(step, spectra, None, length=num_layers)
    return after, operators, monitor


def transform(
    operators: Operators, spectra: Spectra, config: LayerConfig
) -> tuple[Spectra, jax.Array, jax.Array]:
    """Passes samples through a network.

    Args:
        operators: of all layers, stacked.
        spectra: of the samples, normalised.
        config: the one it was built with.

    Returns:
        The features behind the last layer, its scores `[K, N]`, and the class of the largest score
        of every layer, int32 `[L, N]`.
    """

    def step(carry: tuple[Spectra, jax.Array], one: Operators) -> tuple[tuple, jax.Array]:
        after, scores = layer_in_blocks(one, carry[0], config)
        return (after, scores), scores.argmax(0).astype(jnp.int32)

    nothing = jnp.zeros(
        (operators.shares.shape[-1], spectra.values.shape[1]), spectra.weights.dtype
    )
    (after, scores), assigned = jax.lax.scan(step, (spectra, nothing), operators)
    return after, scores, assigned
