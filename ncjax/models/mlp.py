"""A multilayer perceptron whose last hidden layer is the feature layer."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from ncjax.models.heads import NAME, Head, HeadKind
from ncjax.models.normalisation import BatchNorm
from ncjax.types import AnyArray


class MLP(nn.Module):
    """Dense, batch normalisation, ReLU, repeated; then a linear head.

    The MLP of the code of 2105.02375 (there six layers of 1,024).

    Attributes:
        num_classes: K.
        widths: of the hidden layers; the last one is the feature dimension d.
        head: "learned" or "etf" (`ncjax.models.heads`).
        head_bias: whether the head has a bias.
        dtype: of the computation; parameters and statistics stay float32.
        axis_name: a mapped axis over which batch statistics are shared, so that they are those of
            the whole batch whatever the number of devices; None outside of mapped code, or for
            statistics of each device's own share.
    """

    num_classes: int
    widths: Sequence[int] = (256, 256, 256)
    head: HeadKind = "learned"
    head_bias: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "N ..."], *, train: bool = False
    ) -> tuple[Float[Array, "N K"], Float[Array, "N d"]]:
        """Logits and features (non-negative, not normalised) of a batch.

        Args:
            x: inputs, flattened to `[N, D]`.
            train: normalise by the batch and update the running statistics (`batch_stats` must be
                mutable), else normalise by the running ones.
        """
        features: jax.Array = x.reshape(x.shape[0], -1)
        for layer, width in enumerate(self.widths):
            # The bias is left to the normalisation.
            features = nn.Dense(width, use_bias=False, dtype=self.dtype)(features)
            norm = BatchNorm(
                use_running_average=not train,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )
            features = nn.relu(norm(features))
            self.sow("intermediates", f"layer_{layer}", features)
        features = features.astype(jnp.float32)
        return Head(self.num_classes, self.head, self.head_bias, name=NAME)(features), features
