r"""The whole Hessian spectrum at the symmetric minimiser, from blocks of at most 7 x 7.

The minimiser of a balanced problem looks the same after any permutation of the classes, of the
samples within a class, and any rotation of unused features. So the Hessian splits over the
irreducible representations of these groups, into blocks whose size depends neither on K nor on n
nor on d. In K feature coordinates let :math:`W = a P + \omega Q` and the class means
:math:`\bar H = c P + \chi Q` (columns), with :math:`Q = 11'/K`, :math:`P = I - Q`. Then

* a feature column beyond those sees the singular values of the loss gradient only
  (`ncjax.ufm.inertia`);
* n - 1 directions a class part its samples: eigenvalues of :math:`W' D_k W / N + \lambda_H`;
* directions (A, B, b) of W, of :math:`\sqrt n` times the means, and of the bias have the form

  .. math:: \frac1K \sum_k \left[ \dot z_k' D_k \dot z_k + \frac{2}{\sqrt n} g_k' A B e_k \right]
            + \lambda_W ||A||^2 + \lambda_H ||B||^2 + \lambda_b ||b||^2,
            \quad \dot z_k = A \bar H e_k + W B e_k / \sqrt n + b,

  with :math:`g_k, D_k` the gradient and Hessian of the loss at a sample of class k. Its components:
  trivial (A and B combine P and Q), standard (:math:`1x', x1', \mathrm{diag}(x)` with
  :math:`1'x = 0`), symmetric and antisymmetric matrices with zero row sums, the former also with
  zero diagonal. Without a common component (:math:`\omega = \chi = 0`) K - 1 coordinates are
  enough, A = AP and B = PB, and no block is larger than 5 x 5.

The sums over k close, so every entry is a short formula.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncjax import checks
from ncjax.types import Scalar
from ncjax.ufm.certificate import escape_eigenvalues
from ncjax.ufm.minimizer import minimizer
from ncjax.ufm.problem import Problem


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExactSpectrum:
    """All eigenvalues of the Hessian at the minimiser.

    Attributes:
        eigenvalues: by component, `[m]`; values of different components may coincide.
        multiplicities: how often each is there, floats `[m]`; their sum is K(d+1) + N d.
        labels: the component of each.
    """

    eigenvalues: jax.Array
    multiplicities: jax.Array
    labels: tuple[str, ...] = dataclasses.field(metadata={"static": True})


def spectrum_at_minimizer(problem: Problem) -> ExactSpectrum:
    """The Hessian's eigenvalues at `minimizer(problem)`, with multiplicities, in O(K) work.

    Args:
        problem: balanced, any symmetric loss, d >= K-1 (d >= K with a common component).

    Returns:
        `ExactSpectrum`. Differentiable in lambdas and hyperparameters; works under `jit` and
        `vmap`, where K coordinates are taken if d allows.

    Raises:
        InputError: as `minimizer`.

    Examples:
        >>> with jax.enable_x64(True):
        ...     problem = Problem(1000, 2048, 1300, "cross_entropy", 1e-6, 1e-6, 1e-4)
        ...     spectrum = spectrum_at_minimizer(problem)    # of 2.7 billion eigenvalues
        ...     count = int(spectrum.multiplicities.sum())
        >>> count == 1000 * 2049 + 1300 * 1000 * 2048
        True
    """
    best = minimizer(problem, compact=True)
    K, d = problem.num_classes, problem.feature_dim
    common = best.common
    restricted = d < K or (checks.is_concrete(common) and float(common) == 0)
    used = K - 1 if restricted else K
    return _spectrum(problem, best.logit_gap, common, best.bias, used=used)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EqualWrongLogits:
    """The loss at a sample with one true and K-1 equal wrong logits: its derivatives' entries."""

    slope_true: jax.Array
    slope_other: jax.Array
    both_true: jax.Array
    true_other: jax.Array
    other: jax.Array  # twice the same wrong logit
    others: jax.Array  # two different ones


def loss_at(problem: Problem, true: Scalar, other: Scalar) -> EqualWrongLogits:
    """The loss's derivatives where the true logit is `true` and all others are `other`."""
    K = problem.num_classes
    z = jnp.where(np.arange(K) == 0, true, other)
    gradient = jax.grad(lambda z: problem.loss_fn(z, jnp.asarray(0)))
    first, second = jnp.eye(2, K, dtype=z.dtype)
    slope, along_true = jax.jvp(gradient, (z,), (first,))
    along_other = jax.jvp(gradient, (z,), (second,))[1]
    others = along_other[2] if K > 2 else jnp.zeros_like(slope[0])
    return EqualWrongLogits(
        slope[0], slope[1], along_true[0], along_true[1], along_other[1], others
    )


@functools.partial(jax.jit, static_argnames="used")
def _spectrum(
    problem: Problem, gap: jax.Array, common: jax.Array, bias: jax.Array, used: int
) -> ExactSpectrum:
    K, d, n = problem.num_classes, problem.feature_dim, problem.samples_per_class
    true = gap * (1 - 1 / K) + common / K + bias
    loss = loss_at(problem, true, -gap / K + common / K + bias)
    scales = _scales(problem, gap, common)
    parts = [
        _unused(problem, loss),
        _within(problem, loss, scales, used),
        _trivial(problem, loss, scales, used),
        _standard(problem, loss, scales, used),
        _traceless(problem, loss, scales, 1),
        _traceless(problem, loss, scales, -1),
    ]
    counts = {
        "unused feature": [(d - used) * (K - 1)] * 2 + [d - used] * 2 + [(d - used) * K * (n - 1)],
        "within class": [K * (n - 1)] * (1 + used - (K - 1)) + [K * (n - 1) * (K - 2)],
        "trivial": [1] * len(parts[2]),
        "standard": [K - 1] * len(parts[3]),
        "symmetric": [max(K * (K - 3) // 2, 0)] * 2,
        "antisymmetric": [(K - 1) * (K - 2) // 2] * 2,
    }
    return ExactSpectrum(
        eigenvalues=jnp.concatenate(parts),
        multiplicities=jnp.stack(
            [jnp.asarray(c, true.dtype) for some in counts.values() for c in some]
        ),
        labels=tuple(name for name, some in counts.items() for _ in some),
    )


class _Scales(NamedTuple):
    """W = a P + omega Q, class means c P + chi Q."""

    a: jax.Array
    omega: jax.Array
    c: jax.Array
    chi: jax.Array
    root: jax.Array
    """sqrt(n)."""


def _scales(problem: Problem, gap: jax.Array, common: jax.Array) -> _Scales:
    n = jnp.asarray(problem.samples_per_class).astype(gap.dtype)
    ratio = jnp.sqrt(jnp.sqrt(problem.lambda_w / (n * problem.lambda_h)))
    s, z = (jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0) for x in (gap, jnp.abs(common)))
    return _Scales(s / ratio, z / ratio, s * ratio, jnp.sign(common) * z * ratio, jnp.sqrt(n))


def _unused(problem: Problem, loss: EqualWrongLogits) -> jax.Array:
    """Pairs of the gradient's singular values on 1-perp and on 1, and lambda_h."""
    K, N = problem.num_classes, problem.num_samples
    size = jnp.sqrt(jnp.asarray(N * K).astype(loss.other.dtype))
    across = jnp.abs(loss.slope_true - loss.slope_other) / size
    along = jnp.abs(loss.slope_true + (K - 1) * loss.slope_other) / size
    alone = jnp.asarray(problem.lambda_h, size.dtype)[None]
    pairs = [*escape_eigenvalues(across, problem), *escape_eigenvalues(along, problem)]
    return jnp.concatenate([jnp.stack(pairs), alone])


def _form(
    loss: EqualWrongLogits, sums: jax.Array, products: jax.Array, true: jax.Array
) -> jax.Array:
    """sum_k z_k' D_k z_k as a bilinear form.

    From vectors or matrices that represent, for the variables at hand, the column sums (`sums`),
    the inner products (`products`, a matrix) and the true entries (`true`).
    """
    own = loss.both_true - loss.other - 2 * loss.true_other + 2 * loss.others
    cross = sums.T @ true
    return (
        loss.others * sums.T @ sums
        + (loss.other - loss.others) * products
        + (loss.true_other - loss.others) * (cross + cross.T)
        + own * true.T @ true
    )


def _within(problem: Problem, loss: EqualWrongLogits, scales: _Scales, used: int) -> jax.Array:
    K = problem.num_classes
    a, omega, *_ = scales
    # Orthonormal: the class's own direction e_k - 1/K, and the mean.
    sums = jnp.asarray([[0.0, np.sqrt(K)]])
    true = jnp.asarray([[np.sqrt(1 - 1 / K), np.sqrt(1 / K)]])
    lengths = jnp.stack([a, omega])
    own = _form(loss, sums, jnp.eye(2), true) * jnp.outer(lengths, lengths)
    own = jnp.linalg.eigvalsh(own) if used == K else own[:1, 0]
    rest = a**2 * (loss.other - loss.others)
    curved = jnp.concatenate([own, rest[None]]) / problem.num_samples
    return curved + problem.lambda_h


def _trivial(problem: Problem, loss: EqualWrongLogits, scales: _Scales, used: int) -> jax.Array:
    K = problem.num_classes
    a, omega, c, chi, root = scales
    # Coordinates of the logits: of P / sqrt(K-1) and of Q; both are unit matrices.
    size = float(np.sqrt(K - 1))
    sums = jnp.asarray([[0.0, np.sqrt(K)]])  # norm of the vector of column sums
    true = jnp.asarray([[size / np.sqrt(K), 1 / np.sqrt(K)]])
    form = _form(loss, sums, jnp.eye(2), true) / K
    of_A, of_B = jnp.diag(jnp.stack([c, chi])), jnp.diag(jnp.stack([a, omega])) / root
    of_b = jnp.asarray([[0.0], [np.sqrt(K)]])
    across = loss.slope_true - loss.slope_other
    force = jnp.diag(jnp.stack([across, across + K * loss.slope_other])) / (K * root)
    keep = np.eye(2)[: used - (K - 2)]
    return _generalised(problem, form, (of_A, of_B, of_b), force, np.eye(2), (keep, keep))


def _standard(problem: Problem, loss: EqualWrongLogits, scales: _Scales, used: int) -> jax.Array:
    K = problem.num_classes
    a, omega, c, chi, root = scales
    # Coordinates (p, q, r) of p 1x' + q x1' + r diag(x), |x| = 1.
    gram = np.array([[K, 0, 1], [0, K, 1], [1, 1, 1]], float)
    sums, true = jnp.asarray([[float(K), 0.0, 1.0]]), jnp.ones((1, 3))
    form = _form(loss, sums, jnp.asarray(gram), true) / K
    right_Q = np.array([[0, 0, 0], [0, 1, 1 / K], [0, 0, 0]])
    left_Q = np.array([[1, 0, 1 / K], [0, 0, 0], [0, 0, 0]])
    right_P, left_P = np.eye(3) - right_Q, np.eye(3) - left_Q
    of_A, of_B = c * right_P + chi * right_Q, (a * left_P + omega * left_Q) / root
    of_b = jnp.asarray([[0.0], [1.0], [0.0]])
    traces = np.array([[0, K, 1], [K, 0, 1], [1, 1, 1]], float)
    totals = np.outer([K, 0, 1.0], [0, K, 1.0])
    force = (loss.slope_other * totals + (loss.slope_true - loss.slope_other) * traces) / (K * root)
    if used == K:
        keep_A = keep_B = np.eye(3)
    else:  # A = AP, B = PB
        keep_A = np.array([[1, 0, 0], [0, -1 / K, 1]])
        keep_B = np.array([[0, 1, 0], [-1 / K, 0, 1]])
    if K == 2:  # where 2 diag(x) = 1x' + x1'
        keep_A, keep_B = keep_A[:-1], keep_B[:-1]
    return _generalised(problem, form, (of_A, of_B, of_b), force, gram, (keep_A, keep_B))


def _traceless(problem: Problem, loss: EqualWrongLogits, scales: _Scales, sign: int) -> jax.Array:
    """Symmetric (sign 1) or antisymmetric matrices: 2 x 2, in A and B."""
    K = problem.num_classes
    a, _, c, _, root = scales
    curved = (loss.other - loss.others) / K
    force = sign * (loss.slope_true - loss.slope_other) / (K * root)
    corner = curved * c * a / root + force
    first, last = curved * c**2 + problem.lambda_w, curved * (a / root) ** 2 + problem.lambda_h
    return jnp.linalg.eigvalsh(jnp.stack([jnp.stack([first, corner]), jnp.stack([corner, last])]))


def _generalised(
    problem: Problem,
    form: Float[Array, "m m"],
    maps: tuple[jax.Array, jax.Array, jax.Array],
    force: Float[Array, "m m"],
    gram: np.ndarray,
    keep: tuple[np.ndarray, np.ndarray],
) -> jax.Array:
    """Eigenvalues of one component's form over (A, B, b), by its metric.

    Args:
        problem: for the decays.
        form: of the loss's Hessian in the coordinates of the logits.
        maps: from the coordinates of A, B and b to those of the logits.
        force: the loss gradient's pairing of A and B.
        gram: inner products of the coordinates, of A and of B alike; b's is 1.
        keep: rows span what A and B may be.
    """
    of_A, of_B, of_b = maps
    A, B = keep
    to_logits = jnp.concatenate([of_A @ A.T, of_B @ B.T, of_b], axis=1)
    matrix = to_logits.T @ form @ to_logits
    here, there = len(A), len(A) + len(B)
    pairing = A @ force @ B.T
    matrix = matrix.at[:here, here:there].add(pairing).at[here:there, :here].add(pairing.T)
    metric = np.zeros((there + 1, there + 1))
    metric[:here, :here], metric[here:there, here:there] = A @ gram @ A.T, B @ gram @ B.T
    metric[-1, -1] = 1
    decays = [problem.lambda_w] * here + [problem.lambda_h] * len(B) + [problem.lambda_b]
    matrix = matrix + jnp.stack([jnp.asarray(x, matrix.dtype) for x in decays])[:, None] * metric
    inverse = np.linalg.inv(np.linalg.cholesky(metric))
    return jnp.linalg.eigvalsh(inverse @ matrix @ inverse.T)
