"""The unconstrained feature model as data: the problem, its variables and its objective.

Points may be *compact*. At every critical point of a loss that is convex in the logits all samples
of a class share one feature (the objective is strictly convex in each feature, given W and b), and
at every critical point at all the features lie in the row space of W. So H may hold one row a class
in place of one a sample, and columns of zeros may be left out of W and H together; everything in
`ncjax.ufm` takes points of either form and means the whole one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ncjax import checks, losses
from ncjax.types import Scalar


@dataclasses.dataclass(frozen=True)
class Problem:
    """An unconstrained feature model (2105.02375 eq. for CE; 2203.01238, 2210.02192).

    Sizes and loss are static; lambdas and hyperparameters may be traced, and batched for `vmap`.
    So may the samples per class, for compact points alone.

    Attributes:
        num_classes: K >= 2.
        feature_dim: d >= 1.
        samples_per_class: n >= 1, or K numbers where classes are unequal; there are N samples in
            all, ordered by class.
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
    samples_per_class: int | tuple[int, ...] | jax.Array
    loss: str | losses.Loss
    lambda_w: float | jax.Array
    lambda_h: float | jax.Array
    lambda_b: float | jax.Array
    hyperparameters: Mapping[str, float | jax.Array] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.check_count("num_classes", self.num_classes, 2)
        checks.check_count("feature_dim", self.feature_dim, 1)
        sizes = self.samples_per_class
        if isinstance(sizes, list | np.ndarray) and np.ndim(sizes) == 1:
            sizes = tuple(sizes)
        _check_samples(sizes, self.num_classes)
        if isinstance(sizes, tuple):
            sizes = tuple(map(int, sizes)) if len(set(sizes)) > 1 else int(sizes[0])
        object.__setattr__(self, "samples_per_class", sizes)
        checks.check_range("lambda_w", self.lambda_w, 0.0, closed=False)
        checks.check_range("lambda_h", self.lambda_h, 0.0, closed=False)
        checks.check_range("lambda_b", self.lambda_b, 0.0)
        # A library loss passed as a function is known by its name, and with it its lower bound.
        names = {function: name for name, function in losses.LOSSES.items()}
        object.__setattr__(self, "loss", names.get(self.loss, self.loss))
        losses.get(self.loss, **self.hyperparameters)

    @property
    def balanced(self) -> bool:
        """Whether all classes have equally many samples."""
        return np.ndim(self.samples_per_class) == 0

    @property
    def num_samples(self) -> int | jax.Array:
        """N, the samples of all classes: an int, or a float array if the sizes are traced."""
        if not _is_static(self.samples_per_class):
            return self.class_sizes.sum()
        return (
            self.num_classes * self.samples_per_class
            if self.balanced
            else sum(self.samples_per_class)
        )

    @property
    def class_sizes(self) -> Float[Array, " K"]:
        """n_k, the samples of each class, as floats `[K]`."""
        sizes = jnp.asarray(self.samples_per_class).astype(jnp.zeros(()).dtype)
        return jnp.broadcast_to(sizes, (self.num_classes,))

    @property
    def labels(self) -> np.ndarray:
        """The class of each sample, in their order: all of class 0 first, int32 `[N]`."""
        return np.repeat(np.arange(self.num_classes, dtype=np.int32), self.samples_per_class)

    def is_compact(self, rows: int) -> bool:
        """Whether so many rows of H (or of the logits) are one a class, and not one a sample."""
        return not (_is_static(self.samples_per_class) and rows == self.num_samples)

    def row_labels(self, rows: int) -> np.ndarray:
        """The class of each row of H, int32 `[rows]`."""
        return np.arange(self.num_classes) if self.is_compact(rows) else self.labels

    def multiplicity(self, rows: int) -> Float[Array, " rows"]:
        """The samples that each row of H stands for, as floats `[rows]`."""
        return self.class_sizes if self.is_compact(rows) else jnp.ones(rows)

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
        """mu sqrt(n): the price of one unit of logit gap; cross entropy collapses at K tau >= 1.

        For unequal classes n is their mean size.
        """
        return self.mu * jnp.sqrt(jnp.asarray(self.num_samples / self.num_classes))

    @property
    def force(self) -> jax.Array:
        """The unit of gradients: norm of the decay's pull on one class at a logit gap of one.

        (n lambda_h / lambda_w)^(1/4) is the norm of w there, its inverse that of each h.
        """
        ratio = jnp.sqrt(jnp.asarray(self.lambda_w / self.lambda_h))
        return jnp.sqrt(self.tau * self.mu * (ratio + 1 / ratio))


def _is_static(samples_per_class: object) -> bool:
    return isinstance(samples_per_class, int | np.integer | tuple)


def _check_samples(samples_per_class: object, num_classes: int) -> None:
    if isinstance(samples_per_class, tuple):
        for size in samples_per_class:
            checks.check_count("samples_per_class", size, 1)
    elif isinstance(samples_per_class, jax.Array):
        checks.check_range("samples_per_class", samples_per_class, 1)
    else:
        checks.check_count("samples_per_class", samples_per_class, 1)
    if np.ndim(samples_per_class):
        checks.check_shape("samples_per_class", samples_per_class, (num_classes,), "[K]")


_STATIC = ("num_classes", "feature_dim", "loss")
_TRACED = ("lambda_w", "lambda_h", "lambda_b", "hyperparameters")


def _flatten(problem: Problem) -> tuple[tuple, tuple]:
    children = [(jax.tree_util.GetAttrKey(n), getattr(problem, n)) for n in _TRACED]
    samples, static = problem.samples_per_class, [getattr(problem, n) for n in _STATIC]
    if _is_static(samples):
        return tuple(children), (*static, samples)
    return (*children, (jax.tree_util.GetAttrKey("samples_per_class"), samples)), (*static, None)


def _unflatten(static: tuple, children: tuple) -> Problem:
    """A problem as a pytree node: unchecked, for it may hold tangents, axes or anything mapped."""
    problem = object.__new__(Problem)
    names = (*_STATIC, "samples_per_class", *_TRACED, "samples_per_class")
    for name, value in zip(names, (*static, *children), strict=False):
        object.__setattr__(problem, name, value)
    return problem


jax.tree_util.register_pytree_with_keys(Problem, _flatten, _unflatten)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """The variables of the model, or a direction in their space.

    Attributes:
        W: classifier, `[K, d]`.
        H: features, one sample a row, `[N, d]` (the papers' H transposed); compact, one class a
            row, `[K, d]`, and fewer columns than d in W and H.
        b: bias, `[K]`.
    """

    W: jax.Array
    H: jax.Array
    b: jax.Array


def init(
    key: PRNGKeyArray, problem: Problem, scale: Scalar = 1.0, *, compact: bool = False
) -> Params:
    """A Gaussian starting point with zero bias.

    Args:
        key: a typed random key.
        problem: gives the sizes.
        scale: standard deviation of the entries times sqrt(d): the typical norm of a row.
        compact: one feature a class, in min(d, K) dimensions.
    """
    key_w, key_h = jax.random.split(key)
    K = problem.num_classes
    d = min(problem.feature_dim, K) if compact else problem.feature_dim
    rows = K if compact else problem.num_samples
    deviation = scale / float(np.sqrt(d))
    return Params(
        W=deviation * jax.random.normal(key_w, (K, d)),
        H=deviation * jax.random.normal(key_h, (rows, d)),
        b=jnp.zeros(K),
    )


def expand(params: Params, problem: Problem) -> Params:
    """The whole point of a compact one: H `[N, d]` with a row for every sample.

    Raises:
        InputError: params don't fit the problem, or its sizes are traced.
    """
    check_params(params, problem)
    if not _is_static(problem.samples_per_class):
        got = "an array"
        raise checks.reject("samples_per_class", got, "an int or a tuple of ints to expand a point")
    missing = ((0, 0), (0, problem.feature_dim - params.W.shape[1]))
    H = params.H
    if problem.is_compact(len(H)):
        H = H[problem.labels]
    return Params(jnp.pad(params.W, missing), jnp.pad(H, missing), params.b)


def logits(params: Params) -> Float[Array, "rows K"]:
    """Z = H W' + 1 b', one row of H a row, `[N, K]` or compact `[K, K]`."""
    product = jnp.matmul(params.H, params.W.T, precision=jax.lax.Precision.HIGHEST)
    return product + params.b[None, :]


def mean_loss(Z: Float[Array, "rows K"], problem: Problem) -> Float[Array, ""]:
    """g(Z): the loss averaged over the samples; the part of the objective that sees the logits."""
    values = problem.loss_fn(Z, problem.row_labels(len(Z)))
    return (problem.multiplicity(len(Z)).astype(values.dtype) * values).sum() / problem.num_samples


def objective(params: Params, problem: Problem) -> Float[Array, ""]:
    """f(W, H, b), as in the module docstring of `ncjax.ufm`."""
    multiplicity = problem.multiplicity(len(params.H)).astype(params.H.dtype)
    decay = (
        problem.lambda_w * jnp.square(params.W).sum()
        + problem.lambda_h * (multiplicity * jnp.square(params.H).sum(1)).sum()
        + problem.lambda_b * jnp.square(params.b).sum()
    )
    return mean_loss(logits(params), problem) + 0.5 * decay


def gradient(params: Params, problem: Problem) -> Params:
    """The gradient, whose row of H is that of a single sample even where the row stands for many.

    So it is the gradient of the whole point, in the form of the given one.
    """
    slope = jax.grad(objective)(params, problem)
    return dataclasses.replace(slope, H=slope.H / _column(problem, slope.H))


def hessian_product(params: Params, direction: Params, problem: Problem) -> Params:
    """H v of the whole space, in the form of the point and the direction."""
    return jax.jvp(lambda p: gradient(p, problem), (params,), (direction,))[1]


def inner(u: Params, v: Params, problem: Problem) -> Float[Array, ""]:
    """The inner product of two directions of the whole space, given compact or not."""
    return (u.W * v.W).sum() + (_column(problem, u.H) * u.H * v.H).sum() + (u.b * v.b).sum()


def norm(direction: Params, problem: Problem) -> Float[Array, ""]:
    """The Euclidean norm of a direction of the whole space, given compact or not."""
    return jnp.sqrt(inner(direction, direction, problem))


def _column(problem: Problem, H: Float[Array, "rows d"]) -> Float[Array, "rows 1"]:
    return problem.multiplicity(len(H)).astype(H.dtype)[:, None]


def check_params(params: Params, problem: Problem) -> None:
    """Refuses parameters whose shapes are not the problem's, or that are not finite.

    Raises:
        InputError: naming the array.
    """
    K, d = problem.num_classes, problem.feature_dim
    columns = np.shape(params.W)[1] if np.ndim(params.W) == 2 else d
    d = max(1, min(d, columns))
    rows = K if np.shape(params.H)[:1] == (K,) else None
    if rows is None and _is_static(problem.samples_per_class):
        rows = problem.num_samples
    shapes = {
        "W": ((K, d), "[K, d]"),
        "H": ((rows or K, d), "[N, d]" if rows and rows != K else "[K, d] or [N, d]"),
        "b": ((K,), "[K]"),
    }
    for name, (shape, meaning) in shapes.items():
        checks.check_shape(f"params.{name}", getattr(params, name), shape, meaning)
        checks.check_finite(f"params.{name}", getattr(params, name))
