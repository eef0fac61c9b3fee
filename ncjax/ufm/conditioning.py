"""How easy a landscape is, by exact numbers: the quantitative form of the papers' comparisons.

Condition number and smallest curvature come from the exact spectrum at the minimiser
(`ncjax.ufm.exact_spectrum`), the escape rate from the escape law at the origin.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ncjax.ufm.certificate import escape_eigenvalues
from ncjax.ufm.exact_spectrum import loss_at, spectrum_at_minimizer
from ncjax.ufm.problem import Problem


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Conditioning:
    """How easy a landscape is, by exact numbers.

    Attributes:
        largest: largest eigenvalue at the minimiser; gradient descent needs a step below 2/largest.
        smallest: smallest eigenvalue that is not zero there: the rate of the last approach.
            Negative if the symmetric point of a loss that is not convex is no minimum.
        condition_number: largest / smallest.
        flat: dimension of the zero eigenvalues: rotations, and a free shift of the bias.
        escape_rate: minus the smallest eigenvalue at the origin with its best bias: the rate at
            which small features grow. Negative where the origin is a minimum.
    """

    largest: jax.Array
    smallest: jax.Array
    condition_number: jax.Array
    flat: jax.Array
    escape_rate: jax.Array


def conditioning(problem: Problem) -> Conditioning:
    """Condition number, smallest curvature and escape rate, exactly.

    Args:
        problem: as in `spectrum_at_minimizer`.

    Returns:
        `Conditioning`. Differentiable in lambdas and hyperparameters, `jit` and `vmap` as there.

    Raises:
        InputError: as `minimizer`.
    """
    spectrum = spectrum_at_minimizer(problem)
    values, size = spectrum.eigenvalues, jnp.abs(spectrum.eigenvalues)
    is_zero = size <= float(jnp.finfo(values.dtype).eps) ** 0.5 * problem.mu
    present = spectrum.multiplicities > 0
    largest = jnp.where(present, values, -jnp.inf).max()
    smallest = jnp.where(is_zero | ~present, jnp.inf, values).min()
    return Conditioning(
        largest=largest,
        smallest=smallest,
        condition_number=largest / smallest,
        flat=jnp.where(is_zero, spectrum.multiplicities, 0).sum(),
        escape_rate=_escape_rate(problem),
    )


@jax.jit
def _escape_rate(problem: Problem) -> jax.Array:
    """At W = H = 0 with the best bias: sqrt(((lW-lH)/2)^2 + sigma^2) - (lW+lH)/2."""
    K = problem.num_classes

    def value(bias: jax.Array, problem: Problem) -> jax.Array:
        logits = jnp.full(K, bias)
        decay = problem.lambda_b * K * bias**2 / 2
        return problem.loss_fn(logits, jnp.asarray(0)) + decay

    def step(bias: jax.Array, problem: Problem) -> jax.Array:
        slope, curvature = jax.grad(value)(bias, problem), jax.grad(jax.grad(value))(bias, problem)
        # Where the loss ignores a common shift the curvature is nothing, and so is the step.
        flat = jnp.abs(curvature) < 1e3 * float(jnp.finfo(bias.dtype).eps)
        return bias - jnp.where(flat, 0, slope / jnp.where(flat, 1, jnp.abs(curvature)))

    frozen = jax.lax.stop_gradient(problem)
    start = jnp.zeros_like(jnp.asarray(problem.mu))
    bias = jax.lax.fori_loop(0, 50, lambda _, bias: step(bias, frozen), start)
    bias = step(jax.lax.stop_gradient(bias), problem)
    loss = loss_at(problem, bias, bias)
    size = jnp.sqrt(jnp.asarray(problem.num_samples * K).astype(bias.dtype))
    sigma = jnp.abs(loss.slope_true - loss.slope_other) / size
    return -escape_eigenvalues(sigma, problem)[0]
