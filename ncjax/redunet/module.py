"""A constructed network as a Flax module, to be fine-tuned by back-propagation (2105.10446)."""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from ncjax.redunet.layers import LayerConfig, layer, normalised
from ncjax.redunet.operators import Operators
from ncjax.redunet.spectra import FFTNorm, from_spectra, to_spectra


class ReduNetModule(nn.Module):
    """The layers of a ReduNet with E and C^j as parameters.

    Complex operators are held in two real parts, which every optimizer knows how to move. What
    `init` draws is random, of the scale 1/sqrt(channels); what `ReduNet.to_flax` gives is the
    constructed network.

    Attributes:
        num_layers: L.
        shares: gamma_j of each class; constants.
        step: eta.
        sharpness: lambda.
        fft_norm: see `ncjax.redunet.Spectra`.
    """

    num_layers: int
    shares: tuple[float, ...]
    step: float = 0.5
    sharpness: float = 500.0
    fft_norm: FFTNorm = "backward"

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "N ..."], *, train: bool = False
    ) -> tuple[Float[jax.Array, "N K"], Float[jax.Array, "N ..."]]:
        """Scores of classes and features.

        Args:
            x: what goes into the first layer, `[N, d]`, `[N, T, C]` or `[N, H, W, C]` (lifted).
            train: changes nothing.

        Returns:
            The scores -lambda ||C^j z|| of the last layer, whose softmax is `predict_proba`, and
            the features behind it, of the shape of `x`.
        """
        del train
        spectra = normalised(to_spectra(x, self.fft_norm))
        F, _, C = spectra.values.shape
        K, dtype = len(self.shares), spectra.weights.dtype
        parts = ("real", "imag") if spectra.positions else ("real",)
        config = LayerConfig(step=self.step, sharpness=self.sharpness)
        shares = jnp.asarray(self.shares, dtype)
        scores = None
        for number in range(self.num_layers):
            of_layer = functools.partial(self._matrix, number=number, parts=parts, dtype=dtype)
            operators = Operators(
                expansion=of_layer("expansion", shape=(F, C, C)),
                compression=of_layer("compression", shape=(K, F, C, C)),
                alphas=jnp.ones(K, dtype),
                shares=shares,
                factored=False,
            )
            spectra, scores = layer(operators, spectra, config)
        return scores.T, from_spectra(spectra)

    def _matrix(self, name: str, number: int, shape: tuple, parts: tuple, dtype: Any) -> jax.Array:
        normal = nn.initializers.normal(1 / math.sqrt(shape[-1]), dtype)
        found = [self.param(f"{name}_{number}_{part}", normal, shape) for part in parts]
        return jax.lax.complex(*found) if len(found) == 2 else found[0]


def parameters_of(operators: Operators) -> dict[str, jax.Array]:
    """The parameters of the module that are a constructed network.

    Args:
        operators: of all layers, stacked.
    """
    compression = jnp.asarray(operators.compression)
    if operators.factored:
        adjoint = compression.conj().swapaxes(-1, -2)
        products = jnp.matmul(adjoint, compression, precision=jax.lax.Precision.HIGHEST)
        identity = jnp.eye(compression.shape[-1], dtype=compression.dtype)
        compression = identity[None, None, None] - products
    alphas = jnp.asarray(operators.alphas)[..., None, None, None].astype(compression.dtype)
    found = {}
    for name, all_layers in {
        "expansion": jnp.asarray(operators.expansion),
        "compression": alphas * compression,
    }.items():
        for number, matrix in enumerate(all_layers):
            found[f"{name}_{number}_real"] = matrix.real
            if jnp.iscomplexobj(matrix):
                found[f"{name}_{number}_imag"] = matrix.imag
    return found
