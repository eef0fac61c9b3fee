r"""Unequal classes: when classes of one size merge, and where the others go as decay vanishes.

Over factorisations of :math:`Z = W \bar H'` (one column a class) the model is convex,

.. math:: \frac1N \sum_k n_k \ell(z_k + b, k) + \mu ||Z S||_* + \frac{\lambda_b}{2} ||b||^2,
          \qquad S = \mathrm{diag}(\sqrt{n_k}).

**Merging (minority collapse).** Exchanging classes of equal size changes nothing, so some minimiser
is invariant, and on the vectors that sum to zero within such a group B it has
:math:`Z S = m P_B`. The group has merged (equal features, rows of W and biases) where m = 0, and
that is a minimum if and only if the slope there is at most :math:`\mu`:

.. math:: \frac{\sqrt{n_B}}{N} (\partial_{other} \ell - \partial_{true} \ell) \le \mu,

the two slopes taken at equal logits. Their difference is 1 for cross entropy, whatever the logits
of the other classes, so B merges exactly when :math:`\sqrt{n_B} \le N \mu`; whether it is the
minority plays no part, nor do the bias and its decay. For cross entropy and two class sizes a sharp
threshold is in 2309.09725; groups of any number, and the other losses, are derived here. With equal
classes it is :math:`K \tau \ge 1`, the known collapse of everything to zero.

**Vanishing decay.** The logits approach :math:`P = I - 11'/K` up to scale, whatever the sizes, and
W and H its factors of least norm: SELI (Thrampoulidis et al., 2208.05512).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ncjax import checks, frames
from ncjax.types import AnyArray, Scalar
from ncjax.ufm.problem import Params, Problem, check_params

_HIGHEST = jax.lax.Precision.HIGHEST


def merging_size(problem: Problem) -> Float[Array, ""]:
    """The class size up to which two or more classes of that size merge at the global minimiser.

    It is (N mu / c)^2 with c = 1 for cross entropy, 1 - smoothing for label smoothing and the
    target for MSE. Every group of classes of one size has this threshold, large or small.

    Args:
        problem: with loss "cross_entropy", "label_smoothing", or "mse" of scale 1, any class sizes,
            and feature_dim at least the rank of the minimiser (K is always enough, K-1 for the
            first two; where classes merge, fewer).

    Returns:
        A size, not rounded. Differentiable; maps over problems with `vmap`.

    Raises:
        InputError: another loss, or MSE of another scale: their slopes depend on the logits of all
            classes. (Where the scale is traced and can't be refused, NaN.)

    Examples:
        >>> problem = Problem(4, 4, (100, 100, 3, 3), "cross_entropy", 0.01, 0.01, 0.01)
        >>> round(float(merging_size(problem)), 3)  # (206 * 0.01)^2: the small classes merge
        4.244
    """
    return jnp.square(problem.num_samples * problem.mu / _slope(problem))


def collapse_ratio(problem: Problem, num_majority: int | None = None) -> Float[Array, ""]:
    """The imbalance R* from which on the minority merges: majority classes n, the others n / R.

    The threshold of `merging_size`, solved for R with n fixed. The minority is merged for every
    R >= R* and not just below R*. (Near R = 1 it may be merged again, if equal classes collapse
    to zero and the minority is more than half of them: N, and with it the weight of the decay,
    falls with R.)

    Args:
        problem: the balanced problem of the majority's size n, with a loss as in `merging_size`.
        num_majority: classes that keep n samples, at most K-2; half of them, rounded up, if None,
            as in `Grid`.

    Returns:
        R* >= 1, not rounded: with whole samples compare the size that n / R is rounded to with
        `merging_size`. 1 if the minority is merged at every ratio. Differentiable; maps over
        problems with `vmap`.

    Raises:
        InputError: as `merging_size`; unequal classes; a minority of fewer than two classes.

    Examples:
        >>> problem = Problem(10, 10, 1000, "cross_entropy", 1e-3, 1e-3, 1e-2)
        >>> round(float(collapse_ratio(problem)), 2)
        37.97
    """
    K = problem.num_classes
    num_majority = -(-K // 2) if num_majority is None else num_majority
    checks.check_count("num_majority", num_majority, 1)
    if num_majority > K - 2:
        raise checks.reject(
            "num_majority", num_majority, f"at most {K - 2}, so that two classes can merge"
        )
    if not problem.balanced:
        remedy = "Give the majority's size; see `merging_size` for given sizes."
        raise checks.reject("samples_per_class", "unequal sizes", "one number", remedy)
    # In x = R^(-1/2): merged where x <= price (K_A + K_B x^2).
    price = problem.tau / _slope(problem)
    discriminant = 1 - 4 * num_majority * (K - num_majority) * jnp.square(price)
    parted = discriminant > 0
    root = (1 + jnp.sqrt(jnp.where(parted, discriminant, 1))) / (2 * num_majority * price)
    return jnp.where(parted, jnp.maximum(jnp.square(root), 1), 1)


def _slope(problem: Problem) -> Scalar:
    """The slope of a wrong logit less that of the true one, where the two are equal."""
    given = problem.hyperparameters
    slopes = {
        "cross_entropy": 1.0,
        "label_smoothing": 1 - given.get("smoothing", 0.1),
        "mse": given.get("target", 1.0),
    }
    if problem.loss not in slopes:
        accepted = f"one of {sorted(slopes)}, for which the threshold is known"
        raise checks.reject("problem.loss", repr(problem.loss), accepted, "Use `solve`.")
    scale = given.get("scale", 1.0)
    if checks.is_concrete(scale) and np.any(np.asarray(scale) != 1):
        accepted = "1, for which the threshold is known"
        raise checks.reject("scale", scale, accepted, "Use `solve`.")
    return jnp.where(jnp.asarray(scale) == 1, slopes[problem.loss], jnp.nan)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seli:
    """The geometry of the minimisers as decay vanishes.

    Attributes:
        classifier: Gram matrix W W' of the classifier, `[K, K]`, of unit Frobenius norm.
        class_means: Gram matrix of the class means, `[K, K]`, of unit Frobenius norm.
    """

    classifier: jax.Array
    class_means: jax.Array


def seli(class_sizes: Float[AnyArray, " K"], free_bias: bool | Bool[Array, ""] = False) -> Seli:
    """The simplex-encoded-labels interpolation of Thrampoulidis et al. (2208.05512).

    The logits are T, one column a class, and W and H' the balanced factors of the samples' matrix
    T Y: with C = T diag(n) T', the Gram matrices are C^(1/2) and T' C^(+1/2) T up to scale.
    T = P = I - 11'/K. A bias without decay adds any b 1' to T at no price, and what is left is
    T = I - n 1'/N (derived here), with features that sum to zero over the samples, not over the
    classes. With equal classes all of them are the simplex ETF.

    Args:
        class_sizes: samples of each class, > 0, `[K]`.
        free_bias: whether the bias has no decay.

    Returns:
        `Seli`: what cross entropy and label smoothing approach as lambda_w and lambda_h go to 0
        (with lambda_b fixed, or 0 where the bias is free). MSE has its limit in common with them
        if the bias is free; if not, T = I.

    Raises:
        InputError: sizes that are not positive, or fewer than two.

    Examples:
        >>> geometry = seli(jnp.array([100.0, 100.0, 1.0]))
        >>> print(np.asarray(geometry.classifier).round(2))
        [[ 0.52 -0.35 -0.17]
         [-0.35  0.52 -0.17]
         [-0.17 -0.17  0.34]]
    """
    sizes = jnp.asarray(class_sizes)
    checks.check_count("number of class_sizes", len(sizes), 2)
    checks.check_range("class_sizes", sizes, 0.0, closed=False)
    projection = frames.centering(len(sizes)).astype(sizes.dtype)
    shift = jnp.broadcast_to((projection @ sizes / sizes.sum())[:, None], projection.shape)
    T = projection - jnp.where(free_bias, shift, 0)
    covariance = jnp.matmul(T * sizes[None, :], T.T, precision=_HIGHEST)
    root, inverse_root = _square_roots(covariance)
    means = jnp.linalg.multi_dot([T.T, inverse_root, T], precision=_HIGHEST)
    return Seli(root / jnp.linalg.norm(root), means / jnp.linalg.norm(means))


def _square_roots(covariance: Float[Array, "K K"]) -> tuple[jax.Array, jax.Array]:
    """The square root, and its pseudoinverse, of a matrix of rank K-1."""
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    roots = jnp.sqrt(eigenvalues.at[0].set(0))
    inverses = 1 / jnp.where(roots > 0, roots, jnp.inf)
    return tuple(
        jnp.matmul(vectors * values[None, :], vectors.T, precision=_HIGHEST)
        for values in (roots, inverses)
    )


def seli_distance(params: Params, problem: Problem) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How far the Gram matrices of W and of the class means are from `seli` of the problem.

    Nothing is centred: at the minimisers of cross entropy and label smoothing the rows of W sum to
    zero by themselves, and the means do so in the limit (with a free bias, over the samples), so
    that a common component is a distance from it. It falls like 1 / log(1 / mu) for cross entropy
    and like mu for label smoothing.

    Args:
        params: the point, whole or compact.
        problem: gives the class sizes, and whether the bias is free (lambda_b = 0).

    Returns:
        The distance of W W' and that of the class means' Gram matrix, scalars in [0, sqrt(2)]
        (`ncjax.frames.gram_distance`).

    Raises:
        InputError: params don't fit the problem.
    """
    check_params(params, problem)
    means = params.H
    if not problem.is_compact(len(means)):
        members = jax.nn.one_hot(problem.labels, problem.num_classes, dtype=means.dtype)
        means = members.T @ means / problem.class_sizes.astype(means.dtype)[:, None]
    target = seli(problem.class_sizes, jnp.asarray(problem.lambda_b) == 0)
    pairs = ((params.W, target.classifier), (means, target.class_means))
    classifier, class_means = (
        frames.gram_distance(jnp.matmul(rows, rows.T, precision=_HIGHEST), gram)
        for rows, gram in pairs
    )
    return classifier, class_means
