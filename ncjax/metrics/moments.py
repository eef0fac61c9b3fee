"""Class means and within-class scatter as a monoid: update with a batch, merge two, psum.

Near collapse the scatter within classes is 1e-4 of the total or less, so sums of squares minus
squared means lose every digit in float32. Here deviations are taken from the mean of their own
batch, and batches are joined by the pairwise formula of Chan, Golub and LeVeque (1983), in which
only differences of nearly equal means appear.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ncjax import checks

_dot = jax.tree_util.Partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassMoments:
    """First and second moments of features, class by class.

    Attributes:
        counts: samples a class, int32 `[K]`.
        means: class means, `[K, d]`; zero where a class has no sample yet.
        scatter: sum over all samples of (h - mean)(h - mean)', `[d, d]`: N times the within-class
            covariance.
        class_scatter: sum over a class's samples of ||h - mean||^2, `[K]`; its sum is the trace of
            `scatter`.
    """

    counts: jax.Array
    means: jax.Array
    scatter: jax.Array
    class_scatter: jax.Array

    @classmethod
    def zeros(cls, num_classes: int, dim: int, dtype: object = None) -> ClassMoments:
        """The moments of no sample: the start of a stream.

        Args:
            num_classes: K >= 2.
            dim: d >= 1.
            dtype: of the features; the default float type if None.

        Raises:
            InputError: sizes too small.
        """
        checks.check_count("num_classes", num_classes, 2)
        checks.check_count("dim", dim, 1)
        return cls(
            counts=jnp.zeros(num_classes, jnp.int32),
            means=jnp.zeros((num_classes, dim), dtype),
            scatter=jnp.zeros((dim, dim), dtype),
            class_scatter=jnp.zeros(num_classes, dtype),
        )

    @property
    def num_classes(self) -> int:
        """K."""
        return self.means.shape[-2]

    @property
    def num_samples(self) -> jax.Array:
        """N, the samples of all classes, int32 scalar."""
        return self.counts.sum(-1)

    @property
    def global_mean(self) -> jax.Array:
        """The mean over all samples (not over class means), `[d]`: the papers' h_G."""
        weights = self.counts.astype(self.means.dtype)
        return _dot(weights, self.means) / weights.sum()

    def update(
        self,
        features: Float[Array | np.ndarray, "N d"],
        labels: Int[Array | np.ndarray, " N"],
        mask: Bool[Array | np.ndarray, " N"] | None = None,
    ) -> ClassMoments:
        """The moments with one batch more; arguments as in `class_moments`."""
        return self.merge(class_moments(features, labels, self.num_classes, mask))

    def merge(self, other: ClassMoments) -> ClassMoments:
        """The moments of both sets of samples together (associative, commutative)."""
        ours, theirs = (m.counts.astype(self.means.dtype) for m in (self, other))
        total = jnp.maximum(ours + theirs, 1)
        difference = other.means - self.means
        weights = ours * theirs / total
        weighted = difference * weights[:, None]
        return ClassMoments(
            counts=self.counts + other.counts,
            means=self.means + difference * (theirs / total)[:, None],
            scatter=self.scatter + other.scatter + _dot(weighted.T, difference),
            class_scatter=self.class_scatter
            + other.class_scatter
            + (weighted * difference).sum(-1),
        )

    def psum(self, axis_name: str) -> ClassMoments:
        """The moments of all devices' samples together, inside `pmap`, `shard_map` or `vmap`.

        Args:
            axis_name: the mapped axis, `ncjax.parallel.AXIS` for code run by `ncjax.parallel`.
        """
        counts = jax.lax.psum(self.counts, axis_name)
        share = (self.counts / jnp.maximum(counts, 1)).astype(self.means.dtype)[:, None]
        means = jax.lax.psum(share * self.means, axis_name)
        # The weighted sum rounds relative to the mean; summing what is left puts that right.
        present = jnp.where(self.counts[:, None] > 0, self.means - means, 0)
        means = means + jax.lax.psum(share * present, axis_name)
        shift = jnp.where(self.counts[:, None] > 0, self.means - means, 0)
        weighted = shift * self.counts.astype(shift.dtype)[:, None]
        return ClassMoments(
            counts=counts,
            means=means,
            scatter=jax.lax.psum(self.scatter + _dot(weighted.T, shift), axis_name),
            class_scatter=jax.lax.psum(self.class_scatter + (weighted * shift).sum(-1), axis_name),
        )


def class_moments(
    features: Float[Array | np.ndarray, "N d"],
    labels: Int[Array | np.ndarray, " N"],
    num_classes: int,
    mask: Bool[Array | np.ndarray, " N"] | None = None,
) -> ClassMoments:
    """The moments of one batch.

    Args:
        features: h, `[N, d]`, as the network gives them (not normalised).
        labels: integers in 0 .. K-1, `[N]`.
        num_classes: K >= 2.
        mask: `[N]`, False for rows to leave out (padding); all rows count if None.

    Returns:
        `ClassMoments` in the features' float type. A class may be absent from a batch.

    Raises:
        InputError: shapes disagree, labels out of range, NaN or infinite features.
    """
    checks.check_count("num_classes", num_classes, 2)
    checks.check_shape("features", features, (None, None), "[N, d]")
    checks.check_shape("labels", labels, (np.shape(features)[0],), "[N]")
    checks.check_labels("labels", labels, num_classes)
    checks.check_finite("features", features)
    features, labels = jnp.asarray(features), jnp.asarray(labels)
    membership = jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    if mask is not None:
        checks.check_shape("mask", mask, labels.shape, "[N]")
        membership = jnp.where(jnp.asarray(mask)[:, None], membership, 0)
        features = jnp.where(jnp.asarray(mask)[:, None], features, 0)
    counts = membership.sum(0)
    average = membership / jnp.maximum(counts, 1)[None, :]
    means = _dot(average.T, features)
    # A second look at the mean removes the rounding of the first, which is relative to ||h||.
    means = means + _dot(average.T, features - means[labels])
    deviations = (features - means[labels]) * membership.sum(1, keepdims=True)
    return ClassMoments(
        counts=counts.astype(jnp.int32),
        means=means,
        scatter=_dot(deviations.T, deviations),
        class_scatter=_dot(membership.T, jnp.square(deviations)).sum(-1),
    )
