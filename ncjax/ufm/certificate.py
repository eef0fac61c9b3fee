r"""What a point of the model is: exact escape curvature, rigorous gap, verdict.

At a critical point let a be a unit vector with W a = 0; balance (H'H = (lambda_w/lambda_h) W'W)
gives H a = 0 too. Then for a singular pair of G = dg/dZ with value :math:`\sigma`, the Hessian maps
the plane of (dW, dH) = (u a', 0) and (0, v a') to itself, with eigenvalues

.. math:: \frac{\lambda_W + \lambda_H}{2} \pm
          \sqrt{\left(\frac{\lambda_W - \lambda_H}{2}\right)^2 + \sigma^2}.

The lower one is negative exactly when :math:`\sigma > \mu`: the strict-saddle statement of
2105.02375 (theorem on d > K) with the exact eigenvalue in place of an inequality. The direction
found this way is checked against a fresh Hessian-vector product before it is believed.

Where the loss is convex in the logits there is a converse. Its own Hessian then adds nothing
negative, so at any point the whole one is at least the form

.. math:: 2 \langle G, dH\, dW' \rangle + \lambda_W ||dW||^2 + \lambda_H ||dH||^2,

which has the two eigenvalues above once for each :math:`\sigma` and each of the d feature columns.
Hence no eigenvalue lies below the lower one of :math:`\sigma_1`, and the Morse index of a critical
point of rank r lies between :math:`(d - r)\, \#\{\sigma > \mu\}` and
:math:`d\, \#\{\sigma > \mu\}`. (Derived here.)
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.curvature import Verdict
from ncjax.types import Scalar
from ncjax.ufm.bounds import dual_bound, has_lower_bound, loss_gradient, spectrum
from ncjax.ufm.minimizer import minimizer
from ncjax.ufm.problem import (
    Params,
    Problem,
    check_params,
    gradient,
    hessian_product,
    inner,
    norm,
    objective,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Certificate:
    """The evidence about one point, and the verdict that it supports.

    Attributes:
        objective: f at the point.
        gradient_norm: Euclidean norm of the gradient over W, H and b.
        lower_bound: no point's objective is below this; None for losses without a convex bound.
        gap: objective - lower_bound, a rigorous bound on how much better any point can be; None
            as above.
        spectral_ratio: ||G||_2 / mu. At a critical point of a convex loss at most 1 means global
            minimiser; above 1, with a null direction of W, strict saddle.
        escape_value: v'Hv, recomputed, for the escape direction v. Never below the smallest
            eigenvalue of the Hessian; equal to it at rank-deficient saddles.
        escape_direction: v, `Params` of unit norm over all variables.
        escape_residual: ||Hv - escape_value v||; some eigenvalue is within it of `escape_value`.
        rank: numerical rank of W, int.
        escape_dimension: eigenvalues below zero that the escape law counts, #{sigma > mu} times
            (d - rank), int: a lower bound of the Morse index at a critical point.
        verdict: a `ncjax.curvature.Verdict`, as an int.
    """

    objective: jax.Array
    gradient_norm: jax.Array
    lower_bound: jax.Array | None
    gap: jax.Array | None
    spectral_ratio: jax.Array
    escape_value: jax.Array
    escape_direction: Params
    escape_residual: jax.Array
    rank: jax.Array
    escape_dimension: jax.Array
    verdict: jax.Array

    @property
    def label(self) -> str:
        """The verdict in words, for a single (unbatched) certificate."""
        return Verdict(int(self.verdict)).label


def certify(
    params: Params,
    problem: Problem,
    *,
    gradient_tol: Scalar = 1e-5,
    gap_tol: Scalar = 1e-8,
    curvature_tol: Scalar = 1e-6,
    rank_tol: Scalar = 1e-5,
) -> Certificate:
    """Examines a point. Meant for float64: the tolerances are below the rounding of float32.

    The verdict, the first that applies:

    1. `not_critical`: the gradient norm exceeds gradient_tol * problem.force.
    2. `strict_saddle`: the recomputed v'Hv lies below -curvature_tol * mu.
    3. `global_minimizer`: convex loss, and the gap is at most gap_tol * min(|f|, 1), or at the
       level of rounding (16 epsilon max(|f|, 1); a gap may be negative by as much).
    4. `symmetric_minimum`: another loss, v'Hv at least -curvature_tol * mu, and f as near to the
       value of the best symmetric configuration (`minimizer`). Not a proof.
    5. `inconclusive`.

    Args:
        params: the point, whole or compact. The certificate is that of the whole point; only
            `escape_direction` is compact too, with a column of zeros more where one was left out.
        problem: the problem it belongs to.
        gradient_tol: relative to `problem.force`, the natural unit of gradients.
        gap_tol: relative to the objective where that is below 1.
        curvature_tol: relative to mu, the natural unit of curvature here.
        rank_tol: singular values of W below rank_tol (n lambda_h / lambda_w)^(1/4) count as zero.

    Returns:
        `Certificate`. Works under `jit` and `vmap` over params and problem.

    Raises:
        InputError: shapes that don't fit the problem, NaN, a tolerance that is not positive.
    """
    check_params(params, problem)
    tolerances = {
        "gradient_tol": gradient_tol,
        "gap_tol": gap_tol,
        "curvature_tol": curvature_tol,
        "rank_tol": rank_tol,
    }
    for name, tol in tolerances.items():
        checks.check_range(name, tol, 0.0, closed=False)
    return _certify(params, problem, gradient_tol, gap_tol, curvature_tol, rank_tol)


@jax.jit
def _certify(
    params: Params,
    problem: Problem,
    gradient_tol: Scalar,
    gap_tol: Scalar,
    curvature_tol: Scalar,
    rank_tol: Scalar,
) -> Certificate:
    if params.W.shape[1] < problem.feature_dim:  # room for the escape direction
        W, H = (jnp.pad(X, ((0, 0), (0, 1))) for X in (params.W, params.H))
        params = Params(W, H, params.b)
    value = objective(params, problem)
    gradient_norm = norm(gradient(params, problem), problem)
    G = loss_gradient(params, problem)
    sigma, right = spectrum(G, problem)
    rank = _rank(params.W, problem, rank_tol)
    direction = _escape_direction(params, G, sigma[0], right[:, 0], problem)
    escape_value, residual = _rayleigh(params, direction, problem)
    bound = dual_bound(G, sigma[0], problem) if has_lower_bound(problem) else None
    gap = None if bound is None else value - bound
    size = jnp.abs(value)
    rounding = 16 * float(jnp.finfo(value.dtype).eps) * jnp.maximum(size, 1)
    value_tol = gap_tol * jnp.minimum(size, 1) + rounding
    verdict = jnp.select(
        [
            gradient_norm > gradient_tol * problem.force,
            escape_value < -curvature_tol * problem.mu,
            _is_minimum(value, gap, value_tol, problem),
        ],
        [
            jnp.int32(Verdict.NOT_CRITICAL),
            jnp.int32(Verdict.STRICT_SADDLE),
            jnp.int32(Verdict.SYMMETRIC_MINIMUM if gap is None else Verdict.GLOBAL_MINIMIZER),
        ],
        jnp.int32(Verdict.INCONCLUSIVE),
    )
    escapes = (sigma > (1 + curvature_tol) * problem.mu).sum()
    return Certificate(
        objective=value,
        gradient_norm=gradient_norm,
        lower_bound=bound,
        gap=gap,
        spectral_ratio=sigma[0] / problem.mu,
        escape_value=escape_value,
        escape_direction=direction,
        escape_residual=residual,
        rank=rank,
        escape_dimension=escapes * (problem.feature_dim - rank),
        verdict=verdict,
    )


def escape_eigenvalues(sigma: Array, problem: Problem) -> tuple[Array, Array]:
    """The two eigenvalues of the escape law for singular values sigma of G (module docstring)."""
    mean = (problem.lambda_w + problem.lambda_h) / 2
    half = jnp.hypot(jnp.asarray((problem.lambda_w - problem.lambda_h) / 2), sigma)
    return mean - half, mean + half


def _is_minimum(value: Scalar, gap: Scalar | None, tol: Scalar, problem: Problem) -> jax.Array:
    if gap is not None:
        return gap <= tol
    if problem.feature_dim < problem.num_classes - 1 or not problem.balanced:
        return jnp.asarray(False)
    best = minimizer(problem, compact=True)
    return best.converged & (jnp.abs(value - best.value) <= tol)


def _rank(W: Float[Array, "K d"], problem: Problem, rank_tol: Scalar) -> jax.Array:
    mean_size = problem.num_samples / problem.num_classes
    unit = (mean_size * problem.lambda_h / problem.lambda_w) ** 0.25
    singular = jnp.linalg.svd(W, compute_uv=False)
    return (singular > rank_tol * unit).sum()


def _escape_direction(
    params: Params,
    G: Float[Array, "N K"],
    sigma: Scalar,
    right: Float[Array, " K"],
    problem: Problem,
) -> Params:
    """The unit eigenvector of the lower eigenvalue in the plane of (u a', 0) and (0, v a')."""
    multiplicity = problem.multiplicity(len(G)).astype(G.dtype)
    features = (multiplicity[:, None] * params.H).T @ params.H
    _, vectors = jnp.linalg.eigh(params.W.T @ params.W + features)
    null = vectors[:, 0]
    left = G @ right
    length = jnp.sqrt((multiplicity * left**2).sum())
    left = jnp.where(length > 0, left / jnp.where(length > 0, length, 1), len(left) ** -0.5)
    angle = 0.5 * jnp.arctan2(2 * sigma, jnp.asarray(problem.lambda_w - problem.lambda_h))
    direction = Params(
        W=-jnp.sin(angle) * jnp.outer(right, null),
        H=jnp.cos(angle) * jnp.outer(left, null),
        b=jnp.zeros_like(params.b),
    )
    size = norm(direction, problem)
    return jax.tree.map(lambda leaf: leaf / size, direction)


def _rayleigh(params: Params, direction: Params, problem: Problem) -> tuple[Scalar, Scalar]:
    """v'Hv and ||Hv - (v'Hv) v|| from a fresh Hessian-vector product."""
    product = hessian_product(params, direction, problem)
    value = inner(direction, product, problem)
    rest = jax.tree.map(lambda p, v: p - value * v, product, direction)
    return value, norm(rest, problem)
