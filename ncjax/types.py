"""Shapes and kinds that several signatures share."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray
"""What is taken where an array is asked for; what is returned is a `jax.Array`."""

Scalar = Float[AnyArray, ""] | float | int
"""A number, or an array of no axes, which may be traced."""

Samples = Any
"""What scikit-learn's validation takes for samples and labels: arrays, lists, data frames."""
