"""The unconstrained feature model as data: the problem, its variables and its objective."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ncjax import checks, losses
from ncjax.types import Scalar


@dataclasses.dataclass(frozen=True)
class Problem:
    """A balanced unconstrained feature model (2105.02375 eq. for CE; 2203.01238, 2210.02192).

    Sizes and loss are static; lambdas and hyperparameters may be traced, and batched for `vmap`.

    Attributes:
        num_classes: K >= 2.
        feature_dim: d >= 1.
        samples_per_class: n >= 1; there are N = n K samples, ordered by class.
        loss: a name of `ncjax.losses`, or your own per-example function `(logits, labels)` that
            treats all wrong classes alike.
        lambda_w: weight decay of W, > 0.
        lambda_h: weight decay of H, > 0.
        lambda_b: weight decay of b, >= 0. With 0, cross entropy and its kin leave a common shift
            of b free.
        hyperparameters: keywords of the loss, as `{"gamma": 2.0}`.

    Raises:
        InputError: sizes too small, unknown loss or hyperparameter, a lambda out of range.

    Examples:
        >>> problem = Problem(4, 6, 3, "focal", 5e-3, 1e-3, 1e-2, {"gamma": 2.0})
        >>> problem.num_samples
        12
    """

    num_classes: int
    feature_dim: int
    samples_per_class: int
    loss: str | losses.Loss
    lambda_w: float | jax.Array
    lambda_h: float | jax.Array
    lambda_b: float | jax.Array
    hyperparameters: Mapping[str, float | jax.Array] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.check_count("num_classes", self.num_classes, 2)
        checks.check_count("feature_dim", self.feature_dim, 1)
        checks.check_count("samples_per_class", self.samples_per_class, 1)
        checks.check_range("lambda_w", self.lambda_w, 0.0, closed=False)
        checks.check_range("lambda_h", self.lambda_h, 0.0, closed=False)
        checks.check_range("lambda_b", self.lambda_b, 0.0)
        # A library loss passed as a function is known by its name, and with it its lower bound.
        names = {function: name for name, function in losses.LOSSES.items()}
        object.__setattr__(self, "loss", names.get(self.loss, self.loss))
        losses.get(self.loss, **self.hyperparameters)

    @property
    def num_samples(self) -> int:
        """N = n K."""
        return self.num_classes * self.samples_per_class

    @property
    def labels(self) -> np.ndarray:
        """The class of each row of H: n zeros, n ones, ..., int32 `[N]`."""
        return np.repeat(np.arange(self.num_classes, dtype=np.int32), self.samples_per_class)

    @property
    def loss_fn(self) -> losses.Loss:
        """The per-example loss with its hyperparameters: `(logits, labels) -> values`."""
        return losses.get(self.loss, **self.hyperparameters)

    @property
    def mu(self) -> jax.Array:
        """sqrt(lambda_w lambda_h): the weight of the nuclear norm of H W' in the convex form."""
        return jnp.sqrt(jnp.asarray(self.lambda_w * self.lambda_h))

    @property
    def tau(self) -> jax.Array:
        """mu sqrt(n): the price of one unit of logit gap; cross entropy collapses at K tau >= 1."""
        return self.mu * float(np.sqrt(self.samples_per_class))

    @property
    def force(self) -> jax.Array:
        """The unit of gradients: norm of the decay's pull on one class at a logit gap of one.

        (n lambda_h / lambda_w)^(1/4) is the norm of w there, its inverse that of each h.
        """
        ratio = jnp.sqrt(jnp.asarray(self.lambda_w / self.lambda_h))
        return jnp.sqrt(self.tau * self.mu * (ratio + 1 / ratio))


_STATIC = ("num_classes", "feature_dim", "samples_per_class", "loss")
_TRACED = ("lambda_w", "lambda_h", "lambda_b", "hyperparameters")


def _flatten(problem: Problem) -> tuple[tuple, tuple]:
    children = [(jax.tree_util.GetAttrKey(n), getattr(problem, n)) for n in _TRACED]
    return tuple(children), tuple(getattr(problem, n) for n in _STATIC)


def _unflatten(static: tuple, children: tuple) -> Problem:
    """A problem as a pytree node: unchecked, for it may hold tangents, axes or anything mapped."""
    problem = object.__new__(Problem)
    for name, value in zip((*_STATIC, *_TRACED), (*static, *children), strict=True):
        object.__setattr__(problem, name, value)
    return problem


jax.tree_util.register_pytree_with_keys(Problem, _flatten, _unflatten)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """The variables of the model, or a direction in their space.

    Attributes:
        W: classifier, `[K, d]`.
        H: features, one sample a row, `[N, d]` (the papers' H transposed).
        b: bias, `[K]`.
    """

    W: jax.Array
    H: jax.Array
    b: jax.Array


def init(key: PRNGKeyArray, problem: Problem, scale: Scalar = 1.0) -> Params:
    """A Gaussian starting point with zero bias.

    Args:
        key: a typed random key.
        problem: gives the sizes.
        scale: standard deviation of the entries times sqrt(d): the typical norm of a row.
    """
    key_w, key_h = jax.random.split(key)
    K, d, N = problem.num_classes, problem.feature_dim, problem.num_samples
    deviation = scale / float(np.sqrt(d))
    return Params(
        W=deviation * jax.random.normal(key_w, (K, d)),
        H=deviation * jax.random.normal(key_h, (N, d)),
        b=jnp.zeros(K),
    )


def logits(params: Params) -> Float[Array, "N K"]:
    """Z = H W' + 1 b', one sample a row, `[N, K]`."""
    product = jnp.matmul(params.H, params.W.T, precision=jax.lax.Precision.HIGHEST)
    return product + params.b[None, :]


def mean_loss(Z: Float[Array, "N K"], problem: Problem) -> Float[Array, ""]:
    """g(Z): the loss averaged over the samples; the part of the objective that sees the logits."""
    return problem.loss_fn(Z, problem.labels).mean()


def objective(params: Params, problem: Problem) -> Float[Array, ""]:
    """f(W, H, b), as in the module docstring of `ncjax.ufm`."""
    decay = (
        problem.lambda_w * jnp.square(params.W).sum()
        + problem.lambda_h * jnp.square(params.H).sum()
        + problem.lambda_b * jnp.square(params.b).sum()
    )
    return mean_loss(logits(params), problem) + 0.5 * decay


def check_params(params: Params, problem: Problem) -> None:
    """Refuses parameters whose shapes are not the problem's, or that are not finite.

    Raises:
        InputError: naming the array.
    """
    K, d, N = problem.num_classes, problem.feature_dim, problem.num_samples
    shapes = {"W": ((K, d), "[K, d]"), "H": ((N, d), "[N, d]"), "b": ((K,), "[K]")}
    for name, (shape, meaning) in shapes.items():
        checks.check_shape(f"params.{name}", getattr(params, name), shape, meaning)
        checks.check_finite(f"params.{name}", getattr(params, name))


def objective_of(problem: Problem) -> functools.partial:
    """f as a function of the parameters alone, for `ncjax.curvature`."""
    return functools.partial(objective, problem=problem)
