r"""Every named measure of neural collapse, from class moments and the last layer.

Notation: class means :math:`h_k`, global mean over all samples :math:`h_G`, centred means
:math:`M` with rows :math:`h_k - h_G` (`[K, d]`), within-class covariance :math:`\Sigma_W`
(1/N), between-class covariance :math:`\Sigma_B = M'M / K`, classifier :math:`W` (`[K, d]`), and
:math:`E = (I - 11'/K)/\sqrt{K-1}`, the Gram matrix of a simplex ETF with unit Frobenius norm.

With unequal class counts :math:`h_G` is not the mean of the class means, so the rows of M do not
sum to zero and :math:`\Sigma_B` weighs classes alike; every measure stays defined, but a perfect
simplex ETF of class means then gives nonzero values for all that use M.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ncjax import checks, frames
from ncjax.metrics.moments import ClassMoments
from ncjax.metrics.span import MeanSpan, mean_span
from ncjax.types import AnyArray

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Collapse:
    r"""The measures; all scalars, 0 at exact collapse, None where W or b was not given.

    NC1, variability within classes:

    Attributes:
        nc1_pinv: :math:`\mathrm{tr}(\Sigma_W \Sigma_B^+) / K` (2105.02375, 2203.01238, 2210.02192).
            Invariant to rotation and scale of the features.
        nc1_trace_ratio: :math:`\mathrm{tr}\,\Sigma_W / \mathrm{tr}\,\Sigma_B`. Invariant to
            rotation and scale.
        cdnv: class-distance normalised variance, the mean over pairs of
            :math:`(v_i + v_j) / (2 ||h_i - h_j||^2)` with :math:`v_k` the mean squared distance to
            the class mean (2112.15121). Uses no global mean, so class counts do not matter.
        nc2_means: :math:`|| MM'/||MM'||_F - E ||_F`.
        nc2_classifier: the same of W: the papers' NC2 (W centred in 2203.01238 and 2210.02192,
            not in 2105.02375).
        nc2_equinorm_means: coefficient of variation of :math:`||h_k - h_G||` (the measure used by
            Papyan, Han and Donoho, 2020; so are the next two).
        nc2_equinorm_classifier: the same of :math:`||w_k||`.
        nc2_cosine_deviation_means: mean over pairs of :math:`|\cos + 1/(K-1)|`.
        nc2_cosine_deviation_classifier: the same of W.
        nc2_cosine_spread_means: standard deviation over pairs of the cosines. Like the next, it
            is also 0 for other equiangular sets.
        nc2_cosine_spread_classifier: the same of W.
        nc2_uniformity_means: hyperspherical energy of the directions, the mean over pairs of
            :math:`-\log ||m_i - m_j||` (2303.06484), above that of the simplex ETF, which
            is the least possible one.
        nc2_uniformity_classifier: the same of W.
        nc3_self_duality: :math:`|| W/||W||_F - M/||M||_F ||_F^2` (Papyan, Han and Donoho, 2020).
        nc3_etf: :math:`|| WM'/||WM'||_F - E ||_F`: the NC3 of 2105.02375, 2203.01238 (W centred)
            and 2210.02192 (W centred).
        nc4_bias: :math:`|| b + W h_G ||_2`, W as it is: the fourth measure in the code of the
            three papers. Not normalised: it scales with the logits. Under MSE the mean logit is
            target/K at collapse, so it tends to target/sqrt(K), not to 0.
    """

    nc1_pinv: jax.Array
    nc1_trace_ratio: jax.Array
    cdnv: jax.Array
    nc2_means: jax.Array
    nc2_equinorm_means: jax.Array
    nc2_cosine_deviation_means: jax.Array
    nc2_cosine_spread_means: jax.Array
    nc2_uniformity_means: jax.Array
    nc2_classifier: jax.Array | None = None
    nc2_equinorm_classifier: jax.Array | None = None
    nc2_cosine_deviation_classifier: jax.Array | None = None
    nc2_cosine_spread_classifier: jax.Array | None = None
    nc2_uniformity_classifier: jax.Array | None = None
    nc3_self_duality: jax.Array | None = None
    nc3_etf: jax.Array | None = None
    nc4_bias: jax.Array | None = None

    def as_dict(self) -> dict[str, jax.Array]:
        """The measures that were taken, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def undefined(self) -> tuple[str, ...]:
        """Names of the measures that have no value here (class means or weights coincide)."""
        return tuple(n for n, value in self.as_dict().items() if not np.all(np.isfinite(value)))


def collapse(
    moments: ClassMoments,
    W: Float[AnyArray, "K d"] | None = None,
    b: Float[AnyArray, " K"] | None = None,
    *,
    center_W: bool = True,
    rtol: float | None = None,
    span: MeanSpan | None = None,
) -> Collapse:
    """Measures collapse in the last layer.

    Args:
        moments: of the features before the classifier, over a whole data set.
        W: classifier, `[K, d]`; without it only the means are measured.
        b: bias, `[K]`; taken as zero if W is given without it.
        center_W: subtract the mean row of W in the NC2 and NC3 measures, as 2203.01238 and
            2210.02192 do; False is the convention of 2105.02375. They differ under MSE.
        rtol: directions whose eigenvalue of Sigma_B is below this share of the largest are outside
            its pseudo-inverse; by default d times the machine epsilon, as in SciPy's `pinv`.
        span: of `centred_means(moments)`, with its variance, where `moments` has no scatter.

    Returns:
        `Collapse`. Where class means coincide a measure is NaN and `undefined()` names it; inside
        `jit`, where an empty class can't be refused, all of them are NaN then.

    Raises:
        InputError: a class without samples, shapes that disagree, non-finite W or b, b without W.
    """
    checks.check_all_classes_present("moments", moments.counts)
    dim = moments.means.shape[1]
    if rtol is not None:
        checks.check_range("rtol", rtol, 0.0, 1.0)
    M = centred_means(moments)
    if span is None:
        span = _span_of(moments, M)
    measures = {
        "nc1_pinv": _nc1_pinv(span, dim * _epsilon(M) if rtol is None else rtol),
        "nc1_trace_ratio": _trace_ratio(moments, M),
        "cdnv": _class_distance_normalised_variance(moments),
        **_frame_measures(M, "means"),
    }
    if W is not None:
        W, b = _checked_classifier(W, b, M)
        measures |= _classifier_measures(moments, M, W, b, center_W)
    elif b is not None:
        raise checks.reject("b", "a bias without W", "given together with W", "Pass W too.")
    missing = (moments.counts == 0).any()
    return Collapse(**{name: jnp.where(missing, jnp.nan, m) for name, m in measures.items()})


def _checked_classifier(
    W: jax.Array | np.ndarray, b: jax.Array | np.ndarray | None, M: jax.Array
) -> tuple[jax.Array, jax.Array]:
    checks.check_shape("W", W, M.shape, "[K, d]")
    checks.check_finite("W", W)
    b = np.zeros(len(M)) if b is None else b
    checks.check_shape("b", b, (len(M),), "[K]")
    checks.check_finite("b", b)
    return jnp.asarray(W, M.dtype), jnp.asarray(b, M.dtype)


def _classifier_measures(
    moments: ClassMoments, M: jax.Array, W: jax.Array, b: jax.Array, center_W: bool
) -> dict[str, jax.Array]:
    bias = jnp.linalg.norm(b + jnp.matmul(W, moments.global_mean, precision=_HIGHEST))
    if center_W:
        W = W - W.mean(0, keepdims=True)
    return {
        **_frame_measures(W, "classifier"),
        "nc3_self_duality": jnp.square(W / jnp.linalg.norm(W) - M / jnp.linalg.norm(M)).sum(),
        "nc3_etf": frames.distance_to_simplex_etf(jnp.matmul(W, M.T, precision=_HIGHEST)),
        "nc4_bias": bias,
    }


def _span_of(moments: ClassMoments, M: jax.Array) -> MeanSpan:
    if moments.scatter is None:
        got, remedy = "moments without scatter", "Pass span, or sum up the scatter."
        raise checks.reject("span", got, "given with them", remedy)
    span = mean_span(M)
    V = span.directions
    variance = (jnp.matmul(V, moments.scatter, precision=_HIGHEST) * V).sum(-1)
    return dataclasses.replace(span, variance=variance / moments.num_samples.astype(M.dtype))


def _nc1_pinv(span: MeanSpan, rtol: float) -> jax.Array:
    """tr(Sigma_W Sigma_B^+)/K as sum_r (v_r' Sigma_W v_r)/s_r^2 over M = U diag(s) V'."""
    squares = jnp.square(span.singular)
    kept = squares > rtol * squares[0]
    ratios = jnp.where(kept, span.variance / jnp.where(kept, squares, 1), 0)
    return jnp.where(squares[0] > 0, ratios.sum(), jnp.nan)


def centred_means(moments: ClassMoments) -> jax.Array:
    """M, class means less the global mean, or zero where they coincide up to rounding.

    Nothing is measured in noise.

    Args:
        moments: of a whole data set.

    Returns:
        M, `[K, d]`.
    """
    means = moments.means
    M = means - moments.global_mean[None, :]
    noise = 4 * _epsilon(M) * jnp.linalg.norm(means)
    return jnp.where(jnp.linalg.norm(M) > noise, M, 0)


def _trace_ratio(moments: ClassMoments, M: jax.Array) -> jax.Array:
    within = moments.class_scatter.sum() / moments.num_samples.astype(M.dtype)
    return within * moments.num_classes / jnp.square(M).sum()


def _class_distance_normalised_variance(moments: ClassMoments) -> jax.Array:
    variance = moments.class_scatter / moments.counts.astype(moments.means.dtype)
    means, K = moments.means, moments.num_classes

    def to_all(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        mean, own_variance = row
        # Differences, not a Gram matrix, keep their digits where means lie far from the origin.
        return (own_variance + variance) / (2 * jnp.square(means - mean[None, :]).sum(-1))

    # A class at a time: all differences at once would be K x K x d numbers.
    ratios = jax.lax.map(to_all, (means, variance))
    return jnp.where(jnp.eye(K, dtype=bool), 0, ratios).sum() / (K * (K - 1))


def _frame_measures(rows: jax.Array, suffix: str) -> dict[str, jax.Array]:
    """The NC2 measures of K vectors, `rows` `[K, d]`."""
    num_classes = rows.shape[0]
    gram = jnp.matmul(rows, rows.T, precision=_HIGHEST)
    norms = jnp.linalg.norm(rows, axis=1)
    first, second = _pairs(num_classes)
    cosines = gram[first, second] / (norms[first] * norms[second])
    etf_energy = -0.5 * math.log(2 * num_classes / (num_classes - 1))
    return {
        f"nc2_{suffix}": frames.distance_to_simplex_etf(gram),
        f"nc2_equinorm_{suffix}": norms.std() / norms.mean(),
        f"nc2_cosine_deviation_{suffix}": jnp.abs(cosines + 1 / (num_classes - 1)).mean(),
        f"nc2_cosine_spread_{suffix}": cosines.std(),
        f"nc2_uniformity_{suffix}": (-0.5 * jnp.log(jnp.maximum(2 - 2 * cosines, 0))).mean()
        - etf_energy,
    }


def _pairs(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(num_classes, k=1)


def _epsilon(array: jax.Array) -> float:
    return float(jnp.finfo(array.dtype).eps)
