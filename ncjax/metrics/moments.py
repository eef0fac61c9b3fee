"""Class means and within-class scatter as a monoid: update with a batch, merge two, psum.

Near collapse the scatter within classes is 1e-4 of the total or less, so sums of squares minus
squared means lose every digit in float32. Two things keep them here: batches are joined by the
pairwise formula of Chan, Golub and LeVeque (1983), in which only differences of means appear; and a
mean is kept as an origin plus a small offset, so that such a difference is not lost to the rounding
of the means themselves.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer

from ncjax import checks
from ncjax.metrics.blocks import split
from ncjax.types import AnyArray

_dot = jax.tree_util.Partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassMoments:
    """First and second moments of features, class by class.

    Attributes:
        counts: samples a class, int32 `[K]`.
        origin: a point near each class mean, `[K, d]`; zero where a class has no sample yet.
        offset: class mean less origin, `[K, d]`.
        scatter: sum over all samples of (h - mean)(h - mean)', `[d, d]`: N times the within-class
            covariance. None where it is not wanted (`ncjax.metrics.span` needs less of it).
        class_scatter: sum over a class's samples of ||h - mean||^2, `[K]`; its sum is the trace of
            `scatter`.
    """

    counts: jax.Array
    origin: jax.Array
    offset: jax.Array
    scatter: jax.Array | None
    class_scatter: jax.Array

    @classmethod
    def zeros(
        cls, num_classes: int, dim: int, dtype: object = None, *, scatter: bool = True
    ) -> ClassMoments:
        """The moments of no sample: the start of a stream.

        Args:
            num_classes: K >= 2.
            dim: d >= 1.
            dtype: of the features; the default float type if None.
            scatter: whether to keep the d x d scatter.

        Raises:
            InputError: sizes too small.
        """
        checks.check_count("num_classes", num_classes, 2)
        checks.check_count("dim", dim, 1)
        return cls(
            counts=jnp.zeros(num_classes, jnp.int32),
            origin=jnp.zeros((num_classes, dim), dtype),
            offset=jnp.zeros((num_classes, dim), dtype),
            scatter=jnp.zeros((dim, dim), dtype) if scatter else None,
            class_scatter=jnp.zeros(num_classes, dtype),
        )

    @property
    def num_classes(self) -> int:
        """K."""
        return self.origin.shape[-2]

    @property
    def means(self) -> jax.Array:
        """Class means, `[K, d]`; zero where a class has no sample."""
        return self.origin + self.offset

    @property
    def num_samples(self) -> jax.Array:
        """N, the samples of all classes, int32 scalar."""
        return self.counts.sum(-1)

    @property
    def global_mean(self) -> jax.Array:
        """The mean over all samples (not over class means), `[d]`: the papers' h_G."""
        weights = self.counts.astype(self.origin.dtype)
        return _dot(weights, self.means) / weights.sum()

    def update(
        self,
        features: Float[AnyArray, "N d"],
        labels: Integer[AnyArray, " N"],
        mask: Bool[AnyArray, " N"] | None = None,
    ) -> ClassMoments:
        """The moments with one batch more; arguments as in `class_moments`."""
        scatter = self.scatter is not None
        return self.merge(class_moments(features, labels, self.num_classes, mask, scatter=scatter))

    def merge(self, other: ClassMoments) -> ClassMoments:
        """The moments of both sets of samples together (associative, commutative).

        Raises:
            InputError: the two have different classes or dimensions.
        """
        checks.check_shape("other.means", other.origin, self.origin.shape, "[K, d]")
        ours, theirs = (m.counts.astype(self.origin.dtype) for m in (self, other))
        total = jnp.maximum(ours + theirs, 1)
        difference = (other.origin - self.origin) + (other.offset - self.offset)
        weighted = difference * (ours * theirs / total)[:, None]
        new = (self.counts == 0)[:, None]
        joined = self.offset + difference * (theirs / total)[:, None]
        return ClassMoments(
            counts=self.counts + other.counts,
            origin=jnp.where(new, other.origin, self.origin),
            offset=jnp.where(new, other.offset, joined),
            scatter=None
            if self.scatter is None or other.scatter is None
            else self.scatter + other.scatter + _dot(weighted.T, difference),
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
        weights = self.counts.astype(self.origin.dtype)[:, None]
        share = weights / jnp.maximum(counts, 1).astype(weights.dtype)[:, None]
        origin = jax.lax.psum(share * self.means, axis_name)
        from_origin = jnp.where(weights > 0, (self.origin - origin) + self.offset, 0)
        offset = jax.lax.psum(share * from_origin, axis_name)
        shift = from_origin - offset
        weighted = weights * shift
        class_scatter = self.class_scatter + (weighted * shift).sum(-1)
        return ClassMoments(
            counts=counts,
            origin=origin,
            offset=offset,
            scatter=None
            if self.scatter is None
            else jax.lax.psum(self.scatter + _dot(weighted.T, shift), axis_name),
            class_scatter=jax.lax.psum(class_scatter, axis_name),
        )


def class_moments(
    features: Float[AnyArray, "N d"],
    labels: Integer[AnyArray, " N"],
    num_classes: int,
    mask: Bool[AnyArray, " N"] | None = None,
    *,
    scatter: bool = True,
) -> ClassMoments:
    """The moments of one batch.

    Args:
        features: h, `[N, d]`, as the network gives them (not normalised).
        labels: integers in 0 .. K-1, `[N]`.
        num_classes: K >= 2.
        mask: `[N]`, False for rows to leave out (padding); all rows count if None.
        scatter: whether to sum up the d x d scatter.

    Returns:
        `ClassMoments` in the features' float type, at least float32. A class may be absent from a
        batch. Where a label is out of range and can't be refused, under `jit`, the sample is left
        out.

    Raises:
        InputError: shapes disagree, or a row that counts has a label out of range or a feature
            that is NaN or infinite.
    """
    checks.check_count("num_classes", num_classes, 2)
    checks.check_shape("features", features, (None, None), "[N, d]")
    checks.check_shape("labels", labels, (np.shape(features)[0],), "[N]")
    mask = np.ones(np.shape(labels), bool) if mask is None else mask
    checks.check_shape("mask", mask, np.shape(labels), "[N]")
    if checks.is_concrete((features, labels, mask)):
        checks.check_labels("labels", np.asarray(labels)[np.asarray(mask)], num_classes)
        checks.check_finite("features", np.asarray(features)[np.asarray(mask)])
    blocks, rest = split(_counted(features, labels, mask))
    moments = _moments_at_once(*rest, num_classes, scatter)
    if blocks is None:
        return moments

    def join(moments: ClassMoments, block: tuple) -> tuple[ClassMoments, None]:
        return moments.merge(_moments_at_once(*block, num_classes, scatter)), None

    return jax.lax.scan(join, moments, blocks)[0]


def _moments_at_once(
    features: jax.Array, labels: jax.Array, mask: jax.Array, num_classes: int, scatter: bool
) -> ClassMoments:
    """Those of rows as `_counted` leaves them."""
    is_member = jax.nn.one_hot(labels, num_classes, dtype=bool) & mask[:, None]
    membership = is_member.astype(features.dtype)
    counts = is_member.sum(0, dtype=jnp.int32)
    numbers = counts.astype(features.dtype)
    average = membership / jnp.maximum(numbers, 1)[None, :]
    origin = _dot(average.T, features)
    kept = membership.sum(1) > 0
    deviations = jnp.where(kept[:, None], features - origin[labels], 0)
    offset = _dot(average.T, deviations)  # the rounding error of the origin
    from_origin = _dot(membership.T, jnp.square(deviations).sum(-1))
    shift = jnp.sqrt(numbers)[:, None] * offset
    return ClassMoments(
        counts=counts,
        origin=origin,
        offset=offset,
        scatter=_dot(deviations.T, deviations) - _dot(shift.T, shift) if scatter else None,
        class_scatter=jnp.maximum(from_origin - jnp.square(shift).sum(-1), 0),
    )


def _counted(
    features: AnyArray, labels: AnyArray, mask: AnyArray
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features in at least float32, zero where masked; int32 labels; the mask."""
    features, labels, mask = jnp.asarray(features), jnp.asarray(labels), jnp.asarray(mask)
    features = features.astype(np.promote_types(features.dtype, np.float32))
    return jnp.where(mask[:, None], features, 0), labels.astype(jnp.int32), mask
