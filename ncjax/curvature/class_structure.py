r"""How the classes shape the Gauss-Newton spectrum of a classifier: outliers between, bulk within.

With J_i the Jacobian of example i's logits and D_i = S_i S_i the loss's Hessian in them (positive
semi-definite for a convex loss), the Gauss-Newton matrix is the second moment of the vectors
:math:`x_{i,j} = J_i^\top S_i e_j`, which carry the class of the example and a logit direction j.
Splitting each class's second moment into that of its mean and its covariance,

.. math:: G = \underbrace{\sum_{c,j} \tfrac{n_c}{N} m_{c,j} m_{c,j}^\top}_{\text{between}}
              + \underbrace{G_{\text{within}}}_{\succeq 0},
          \qquad m_{c,j} = \tfrac{1}{n_c} \sum_{i \in c} x_{i,j},

is the class/cross-class structure that Papyan (2020, "Traces of class/cross-class structure pervade
deep learning spectra") found behind the outliers, for any convex loss. Under neural collapse the
features of a class coincide, and in the last layer nothing remains within.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Integer

from ncjax import checks, parallel
from ncjax.curvature.density import trace
from ncjax.curvature.eigenpairs import extreme_eigenpairs
from ncjax.curvature.operators import Parts, Setup, data_gauss_newton, summed
from ncjax.curvature.products import inner
from ncjax.curvature.program import locate
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassStructure:
    """The Gauss-Newton spectrum of a classifier beside its classes.

    Attributes:
        eigenvalues: the k largest of G, descending, `[k]`.
        residuals: of these eigenpairs, `[k]`.
        converged: whether each pair has converged, bool `[k]`.
        between: the nonzero eigenvalues of the part between classes, descending, `[K K]`.
        bulk_edge: largest eigenvalue of the part within classes; by Lanczos from below.
        bulk_residual: of that eigenpair.
        outliers: how many of the k eigenvalues stand clear of the bulk: above `bulk_edge` plus both
            residuals. Nothing would stand above the true edge without the part between classes.
        between_share: trace of the part between classes as a share of the trace of G.
        between_share_error: standard error of that share (G's trace is estimated).
        alignment: for each class, the cosine of the angle between the gradient of its mean loss and
            the span of the K leading eigenvectors of G (fewer if k is less), `[K]`.
    """

    eigenvalues: jax.Array
    residuals: jax.Array
    converged: jax.Array
    between: jax.Array
    bulk_edge: jax.Array
    bulk_residual: jax.Array
    outliers: jax.Array
    between_share: jax.Array
    between_share_error: jax.Array
    alignment: jax.Array


def class_structure(
    outputs: Callable[..., jax.Array],
    loss: Callable[..., jax.Array],
    params: Any,
    inputs: Any,
    labels: Integer[AnyArray, " N"],
    num_classes: int,
    *,
    k: int | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    key: jax.Array | None = None,
) -> ClassStructure:
    """Splits a classifier's Gauss-Newton matrix by class and looks for its outliers.

    Args:
        outputs: `outputs(params, inputs) -> [B, K]`, the logits.
        loss: `loss(logits, labels) -> [B]`, one value per example, convex in the logits.
        params: the point.
        inputs: `[N, ...]`.
        labels: integers in 0 .. K-1, every class present, `[N]`.
        num_classes: K. The part between classes takes K K gradients and as many vectors of memory.
        k: eigenvalues of G to look at; K + 5 if None (at most p).
        num_steps: of Lanczos, as in `extreme_eigenpairs`.
        batch_size: most examples at once; all if None.
        key: typed random key; `jax.random.key(0)` if None.

    Returns:
        `ClassStructure`. Not for use under `jit` or `vmap`.

    Raises:
        InputError: labels out of range or a class without examples; a loss that is concave in some
            direction of the logits here (as focal can be); and as `extreme_eigenpairs`.
    """
    checks.check_labels("labels", labels, num_classes)
    counts = jnp.bincount(jnp.asarray(labels), length=num_classes)
    checks.check_all_classes_present("labels", counts)
    key = jax.random.key(0) if key is None else key
    operator = data_gauss_newton(outputs, loss, (inputs, labels), batch_size=batch_size)
    params = locate(operator, params).point
    batches = parallel.shard_batches((inputs, labels), 1, batch_size)
    batches = jax.tree.map(lambda x: jnp.asarray(x[0]), batches)
    means, gradients, concave = _class_means(outputs, loss, params, counts, batches)
    if int(concave):
        got = f"a loss that is concave in some direction of the logits at {int(concave)} examples"
        remedy = "Cross entropy, label smoothing and MSE are; focal is not everywhere."
        raise checks.reject("loss", got, "convex in the logits", remedy)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    k = min(num_classes + 5, size) if k is None else k
    settings = {"num_steps": num_steps, "key": key}
    pairs = extreme_eigenpairs(operator, params, k, "LA", **settings)
    within = dataclasses.replace(
        operator,
        setup=_Within(operator.setup),
        args=(means, *operator.args),
        shared=operator.shared + 1,
    )
    edge = extreme_eigenpairs(within, params, 1, "LA", **settings)
    whole = trace(operator, params, key=key)
    rows = jax.vmap(lambda tree: ravel_pytree(tree)[0])(means)
    between = jnp.linalg.eigvalsh(jnp.matmul(rows, rows.T, precision="highest"))[::-1]
    clear = pairs.eigenvalues - pairs.residuals > edge.eigenvalues[0] + edge.residuals[0]
    total = jnp.where(whole.value > 0, whole.value, 1)  # where G is zero, so is every share
    share = between.sum() / total
    return ClassStructure(
        eigenvalues=pairs.eigenvalues[::-1],
        residuals=pairs.residuals[::-1],
        converged=pairs.converged[::-1],
        between=between,
        bulk_edge=edge.eigenvalues[0],
        bulk_residual=edge.residuals[0],
        outliers=clear.sum(),
        between_share=share,
        between_share_error=share * whole.standard_error / total,
        alignment=_cosines(gradients, pairs.top(min(k, num_classes)).eigenvectors),
    )


def _cosines(vectors: Any, span: Any) -> jax.Array:
    """Cosine of the angle between each of the vectors and an orthonormal span."""
    rows, basis = (jax.vmap(lambda tree: ravel_pytree(tree)[0])(x) for x in (vectors, span))
    inside = jnp.linalg.norm(jnp.matmul(rows, basis.T, precision="highest"), axis=1)
    lengths = jnp.linalg.norm(rows, axis=1)
    return inside / jnp.where(lengths > 0, lengths, 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _class_means(
    outputs: Callable[..., jax.Array],
    loss: Callable[..., jax.Array],
    params: Any,
    counts: jax.Array,
    batches: tuple[jax.Array, ...],
) -> tuple[Any, Any, jax.Array]:
    """Vectors sqrt(n_c/N) m_cj `[K K, ...]`, gradients `[K, ...]`, number of concave examples."""
    num_classes = len(counts)
    pairs = jnp.stack(jnp.divmod(jnp.arange(num_classes**2), num_classes), 1)

    def of_one(logits: jax.Array, label: jax.Array) -> jax.Array:
        return loss(logits[None], label[None])[0]

    def of_batch(batch: tuple) -> tuple[Any, Any, jax.Array]:
        x, y, valid = batch
        logits, pull = jax.vjp(lambda params: outputs(params, x), params)
        slopes = jax.vmap(jax.grad(of_one))(logits, y)
        roots, concave = _roots(jax.vmap(jax.hessian(of_one))(logits, y))
        members = (jax.nn.one_hot(y, num_classes, dtype=bool) & valid[:, None]).astype(logits.dtype)
        number = counts.astype(logits.dtype)

        def mean(pair: jax.Array) -> Any:
            c, j = pair
            weight = jax.lax.rsqrt(number[c] * number.sum())
            return pull(weight * members[:, c, None] * roots[:, :, j])[0]

        def gradient(c: jax.Array) -> Any:
            return pull(members[:, c, None] * slopes / number[c])[0]

        classes = jnp.arange(num_classes)
        return jax.lax.map(mean, pairs), jax.lax.map(gradient, classes), (concave & valid).sum()

    return summed(of_batch, batches)


def _roots(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Symmetric square roots, and where a matrix has a negative eigenvalue beyond rounding."""
    values, vectors = jnp.linalg.eigh(matrices)
    concave = values[:, 0] < -1e-3 * jnp.abs(values).max()
    columns = vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None, :]
    return jnp.matmul(columns, vectors.mT, precision="highest"), concave


@dataclasses.dataclass(frozen=True)
class _Within:
    """The operator less the part between classes; args are (its vectors, *the operator's args)."""

    whole: Setup

    def __call__(self, point: Any, args: tuple) -> Parts:
        between, *rest = args
        value, gradient, product = self.whole(point, tuple(rest))

        def within(vector: Any) -> Any:
            shares = jax.vmap(inner, in_axes=(0, None))(between, vector)
            taken = jax.tree.map(lambda rows: jnp.tensordot(shares, rows, 1), between)
            return jax.tree.map(jnp.subtract, product(vector), taken)

        return Parts(value, gradient, within)
