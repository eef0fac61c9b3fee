"""Networks in Flax Linen; each returns `(logits, features)`, the features as the head sees them."""

from ncjax.models.heads import classifier as classifier
from ncjax.models.mlp import MLP as MLP
