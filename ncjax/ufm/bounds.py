r"""A rigorous lower bound of the whole landscape from the dual, at any point.

Minimising over factorisations of :math:`Z = H W'` turns the decay of W and H into
:math:`\mu ||Z||_*` with :math:`\mu = \sqrt{\lambda_W \lambda_H}`, a convex problem if the loss is
convex. For any dual V with spectral norm at most :math:`\mu`,

.. math:: f \ge -g^*(V) - ||V'1||^2 / (2 \lambda_b),

where :math:`g^*` is the conjugate of the mean loss. V is the gradient at the point at hand, shrunk
into that ball, so the bound is tight at a global minimiser. Holds for every d and all class sizes.
Duals are kept in the rows of the point's H: one a sample, or one a class.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.types import Scalar
from ncjax.ufm.problem import Params, Problem, check_params, logits, mean_loss

Dual = Float[Array, "rows K"]


def loss_gradient(params: Params, problem: Problem) -> Dual:
    """G = dg/dZ of each sample, `[rows, K]`, with the 1/N of the mean; the papers' is G'."""
    slope = jax.grad(mean_loss)(logits(params), problem)
    return slope / _multiplicity(slope, problem)


def spectrum(G: Dual, problem: Problem) -> tuple[Float[Array, " K"], Float[Array, "K K"]]:
    """Singular values of the whole G, descending, and right singular vectors as columns, `[K, K]`.

    From the K x K Gram matrix: cheap for any N, and the leading values keep full accuracy.
    """
    weighted = G * _multiplicity(G, problem)
    gram = jnp.matmul(weighted.T, G, precision=jax.lax.Precision.HIGHEST)
    eigenvalues, vectors = jnp.linalg.eigh(gram)
    return jnp.sqrt(jnp.maximum(eigenvalues[::-1], 0)), vectors[:, ::-1]


def _multiplicity(V: Dual, problem: Problem) -> Float[Array, "rows 1"]:
    return problem.multiplicity(len(V)).astype(V.dtype)[:, None]


def has_lower_bound(problem: Problem) -> bool:
    """Whether the problem's loss is one whose convex conjugate is known here."""
    return problem.loss in _CONJUGATES


def lower_bound(params: Params, problem: Problem) -> Scalar:
    """The best bound that the gradient at `params` gives for the minimum of the objective.

    Args:
        params: any point; the nearer to a global minimiser the tighter.
        problem: with loss "cross_entropy", "label_smoothing", "mse" or "squared_hinge".

    Returns:
        A scalar that no point's objective is below (up to rounding). With lambda_b = 0 the dual is
        first projected onto V'1 = 0; that may leave the squared hinge without a bound, `-inf`.

    Raises:
        InputError: the loss has no known convex conjugate, or params don't fit the problem.
    """
    check_params(params, problem)
    if not has_lower_bound(problem):
        raise checks.reject(
            "problem.loss",
            repr(problem.loss),
            f"one of {sorted(_CONJUGATES)}",
            "Compare with `minimizer(problem).value` instead; that is no proof.",
        )
    G = loss_gradient(params, problem)
    return dual_bound(G, spectrum(G, problem)[0][0], problem)


def dual_bound(G: Dual, spectral_norm: Scalar, problem: Problem) -> Scalar:
    """`lower_bound` from the loss gradient and its spectral norm."""
    conjugate = _CONJUGATES[problem.loss]
    V = G * jnp.minimum(1, problem.mu / jnp.where(spectral_norm > 0, spectral_norm, 1))
    total = (_multiplicity(V, problem) * V).sum(0, keepdims=True)
    centred = V - total / problem.num_samples
    free_bias = problem.lambda_b > 0
    penalty = jnp.square(total).sum() / (2 * jnp.where(free_bias, problem.lambda_b, 1))
    plain = jnp.where(free_bias, conjugate(V, problem) - penalty, -jnp.inf)
    return jnp.maximum(plain, conjugate(centred, problem))


def _targets(V: Dual, problem: Problem) -> Dual:
    return jax.nn.one_hot(problem.row_labels(len(V)), problem.num_classes, dtype=V.dtype)


def _entropy_bound(V: Dual, targets: Dual, problem: Problem) -> Scalar:
    """-g*(V) = mean entropy of T + N V, V first shrunk until every row is a distribution."""
    scaled = problem.num_samples * V
    room = jnp.where(scaled < 0, targets / jnp.where(scaled < 0, -scaled, 1), 1)
    q = targets + jnp.minimum(1, room.min()) * scaled
    return (_multiplicity(V, problem)[:, 0] * jax.scipy.special.entr(q).sum(1)).sum() / (
        problem.num_samples
    )


def _cross_entropy(V: Dual, problem: Problem) -> Scalar:
    return _entropy_bound(V, _targets(V, problem), problem)


def _label_smoothing(V: Dual, problem: Problem) -> Scalar:
    smoothing = problem.hyperparameters.get("smoothing", 0.1)
    uniform = smoothing / problem.num_classes
    return _entropy_bound(V, (1 - smoothing) * _targets(V, problem) + uniform, problem)


def _mse(V: Dual, problem: Problem) -> Scalar:
    """-g*(V) = -M <V, Y> - N/2 sum V^2 / weight."""
    scale = problem.hyperparameters.get("scale", 1.0)
    target = problem.hyperparameters.get("target", 1.0)
    Y = _targets(V, problem)
    cost = target * V * Y + problem.num_samples / 2 * jnp.square(V) / (1 + (scale - 1) * Y)
    return -(_multiplicity(V, problem) * cost).sum()


def _squared_hinge(V: Dual, problem: Problem) -> Scalar:
    """-g*(V) = sum over wrong classes of m V - N V^2 / 4, where all those V >= 0; else no bound.

    The sum over the K classes of a sample's V vanishes, as it does in every gradient.
    """
    margin = problem.hyperparameters.get("margin", 1.0)
    wrong = V * (1 - _targets(V, problem))
    value = margin * wrong - problem.num_samples / 4 * jnp.square(wrong)
    total = (_multiplicity(V, problem) * value).sum()
    return jnp.where(wrong.min() >= 0, total, -jnp.inf)


_CONJUGATES: dict[object, Callable[[Dual, Problem], Scalar]] = {
    "cross_entropy": _cross_entropy,
    "label_smoothing": _label_smoothing,
    "mse": _mse,
    "squared_hinge": _squared_hinge,
}
CONVEX = frozenset(_CONJUGATES)
"""The losses known here to be convex in the logits, with their conjugates."""
