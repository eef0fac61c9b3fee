"""A multilayer perceptron whose last hidden layer is the feature layer."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from ncjax.models.heads import NAME
from ncjax.types import AnyArray


class MLP(nn.Module):
    """Dense, batch normalisation, ReLU, repeated; then a linear head.

    The MLP of the code of 2105.02375 (there with more and wider layers).

    Attributes:
        num_classes: K.
        widths: of the hidden layers; the last one is the feature dimension d.
        axis_name: a mapped axis over which batch statistics are shared, so that they are those of
            the whole batch whatever the number of devices; None outside of mapped code.
    """

    num_classes: int
    widths: Sequence[int] = (256, 256, 256)
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
        for width in self.widths:
            # The bias is left to the normalisation.
            features = nn.Dense(width, use_bias=False)(features)
            norm = nn.BatchNorm(
                use_running_average=not train, momentum=0.9, axis_name=self.axis_name
            )
            features = nn.relu(norm(features))
        return nn.Dense(self.num_classes, name=NAME)(features), features
