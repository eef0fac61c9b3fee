"""What needs the samples a second time: nearest class centre and cosine margins."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from ncjax import checks
from ncjax.metrics.moments import ClassMoments
from ncjax.types import AnyArray

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SampleGeometry:
    """Where samples lie relative to class means and classifier; concatenates over batches.

    Attributes:
        predicted: the network's class, argmax of W h + b, int `[N]`.
        nearest_class: the class whose mean is nearest to h, int `[N]`.
        cosine_margin: cosine between h - h_G and the centred classifier row of the sample's own
            class, less the largest one of another class, `[N]` (2203.01238; the authors' code
            leaves the numerator uncentred, which is the same where h_G or the mean row is zero). A
            vector of length zero, which has no direction, counts as orthogonal to all.
    """

    predicted: jax.Array
    nearest_class: jax.Array
    cosine_margin: jax.Array

    @property
    def nc4_agreement(self) -> jax.Array:
        """Share of samples that the network puts into the class of the nearest mean: 1 at collapse.

        NC4 of Papyan, Han and Donoho (2020), as agreement, with the bias included.
        """
        return (self.predicted == self.nearest_class).mean()


def sample_geometry(
    features: Float[AnyArray, "N d"],
    labels: Integer[AnyArray, " N"],
    moments: ClassMoments,
    W: Float[AnyArray, "K d"],
    b: Float[AnyArray, " K"] | None = None,
    *,
    center_W: bool = True,
) -> SampleGeometry:
    """Measures each sample against the class means and the classifier.

    Args:
        features: h, `[N, d]`.
        labels: integers in 0 .. K-1, `[N]`.
        moments: of the data set whose class means count (usually the training set).
        W: classifier, `[K, d]`.
        b: bias, `[K]`; zero if None.
        center_W: subtract the mean row of W in the cosines (never in the prediction).

    Returns:
        `SampleGeometry`.

    Raises:
        InputError: a class without samples, shapes that disagree, labels out of range, NaN.
    """
    num_classes, dim = moments.means.shape
    checks.check_all_classes_present("moments", moments.counts)
    checks.check_shape("features", features, (None, dim), "[N, d]")
    checks.check_shape("labels", labels, (np.shape(features)[0],), "[N]")
    checks.check_labels("labels", labels, num_classes)
    checks.check_finite("features", features)
    checks.check_shape("W", W, (num_classes, dim), "[K, d]")
    checks.check_finite("W", W)
    features = jnp.asarray(features)
    W = jnp.asarray(W, features.dtype)
    logits = jnp.matmul(features, W.T, precision=_HIGHEST)
    if b is not None:
        checks.check_shape("b", b, (num_classes,), "[K]")
        checks.check_finite("b", b)
        logits = logits + jnp.asarray(b, features.dtype)[None, :]
    return SampleGeometry(
        predicted=logits.argmax(-1),
        nearest_class=_nearest_class(features, moments),
        cosine_margin=_cosine_margin(features, jnp.asarray(labels), moments, W, center_W),
    )


def _nearest_class(features: jax.Array, moments: ClassMoments) -> jax.Array:
    """argmin_k ||h - h_k||, from inner products taken about the global mean."""
    centre = moments.global_mean[None, :]
    means = moments.means - centre
    inner = jnp.matmul(features - centre, means.T, precision=_HIGHEST)
    return (0.5 * jnp.square(means).sum(-1)[None, :] - inner).argmin(-1)


def _cosine_margin(
    features: jax.Array, labels: jax.Array, moments: ClassMoments, W: jax.Array, center_W: bool
) -> jax.Array:
    if center_W:
        W = W - W.mean(0, keepdims=True)
    centred = features - moments.global_mean[None, :]
    cosines = jnp.matmul(_directions(centred), _directions(W).T, precision=_HIGHEST)
    own = jax.nn.one_hot(labels.astype(jnp.int32), W.shape[0], dtype=bool)
    return jnp.where(own, cosines, 0).sum(-1) - jnp.where(own, -jnp.inf, cosines).max(-1)


def _directions(rows: jax.Array) -> jax.Array:
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.where(norms > 0, norms, 1)
