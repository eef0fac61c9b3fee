r"""The Hessian of the model as an arrow: one small block a feature, one corner for W and b.

Given W and b the samples do not interact. With :math:`g_i` and :math:`D_i` the gradient and Hessian
of sample i's share of the mean loss in its logits, :math:`M_i = D_i W` and :math:`x_i = (h_i, 1)`,
the Hessian has

* blocks :math:`B_i = W^\top D_i W + \lambda_H I`;
* couplings :math:`C_i` with entries :math:`(M_i)_{kf} x_{ie} + g_{ik} \delta_{ef}` between
  :math:`(W, b)_{ke}` and :math:`h_{if}`;
* the corner :math:`\sum_i D_i \otimes x_i x_i^\top + \mathrm{diag}(\lambda_W, .., \lambda_b)`.

So one solve with H - tI takes the blocks' inverses :math:`R_i` and one factorisation of the Schur
complement of size K(d+1),

.. math:: S(t) = \sum_i (D_i - M_i R_i M_i^\top) \otimes x_i x_i^\top
          - X - X^\top - \sum_i g_i g_i^\top \otimes R_i
          + \mathrm{diag}(\lambda_W, .., \lambda_b) - tI,

X the cross term of both parts of the coupling: four matrix products over i, never the couplings
themselves. A row that stands for m samples (`Params` may be compact) enters the metric with weight
m: the eigenvalues are those of the whole Hessian on its subspace.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ncjax.ufm.problem import Params, Problem, logits

_PRECISION = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Arrow:
    """The pieces of the Hessian at a point.

    Attributes:
        W: classifier, `[K, d]`.
        X: features with a one behind, `[rows, d+1]`.
        multiplicity: samples that each row stands for, `[rows]`.
        gradients: g_i, of the rows' whole share of the mean loss, `[rows, K]`.
        hessians: D_i, likewise, `[rows, K, K]`.
        blocks: B_i, `[rows, d, d]`.
        decay: of W and b, as they stand on the corner's diagonal, `[d+1]`.
    """

    W: jax.Array
    X: jax.Array
    multiplicity: jax.Array
    gradients: jax.Array
    hessians: jax.Array
    blocks: jax.Array
    decay: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factored:
    """H - tI after the features are eliminated.

    Attributes:
        arrow: H.
        couplings: M_i, `[rows, K, d]`.
        inverses: R_i, `[rows, d, d]`.
        schur: S(t), `[K (d+1), K (d+1)]`.
    """

    arrow: Arrow
    couplings: jax.Array
    inverses: jax.Array
    schur: jax.Array


def arrow(params: Params, problem: Problem) -> Arrow:
    """The Hessian's pieces at a point, for any loss."""
    Z = logits(params)
    labels = jnp.asarray(problem.row_labels(len(Z)))
    multiplicity = problem.multiplicity(len(Z))
    share = multiplicity / problem.num_samples
    gradients = jax.vmap(jax.grad(problem.loss_fn))(Z, labels) * share[:, None]
    hessians = jax.vmap(jax.hessian(problem.loss_fn))(Z, labels) * share[:, None, None]
    d = params.W.shape[1]
    decay = jnp.where(jnp.arange(d + 1) < d, problem.lambda_w, problem.lambda_b)
    curved = _dot("ke,ikf->ief", params.W, _dot("ikl,lf->ikf", hessians, params.W))
    return Arrow(
        W=params.W,
        X=jnp.concatenate([params.H, jnp.ones((len(Z), 1), Z.dtype)], axis=1),
        multiplicity=multiplicity,
        gradients=gradients,
        hessians=hessians,
        blocks=curved + problem.lambda_h * multiplicity[:, None, None] * jnp.eye(d)[None],
        decay=decay,
    )


def shifted_blocks(arrow: Arrow, shift: Inexact[Array, ""] | float) -> Inexact[Array, "rows d d"]:
    """B_i - t m_i I."""
    dtype = jnp.asarray(shift).dtype
    metric = arrow.multiplicity[:, None, None] * jnp.eye(arrow.W.shape[1])[None]
    return arrow.blocks.astype(dtype) - shift * metric.astype(dtype)


def eliminated(
    arrow: Arrow, shift: Inexact[Array, ""] | float, inverses: Inexact[Array, "rows d d"]
) -> Factored:
    """H - tI with its blocks eliminated, from their inverses."""
    K, width = len(arrow.W), arrow.X.shape[1]
    X, g = arrow.X, arrow.gradients
    M = _dot("ikl,lf->ikf", arrow.hessians, arrow.W)
    MR = _dot("ikf,ife->ike", M, inverses)
    plain = _rows_last(arrow.hessians.astype(MR.dtype)) - _rows_last(_dot("ikf,ilf->ikl", MR, M))
    # The bias has no part in the coupling's second term: a column of zeros stands in its place.
    MR = jnp.pad(_rows_last(MR), ((0, 0), (0, 1), (0, 0)))
    R = jnp.pad(inverses, ((0, 0), (0, 1), (0, 1)))
    own = _sum_of_products(
        jnp.concatenate([plain, -(g.T[:, None] * g.T[None]).astype(plain.dtype)], axis=2),
        jnp.concatenate([(X[:, :, None] * X[:, None, :]).astype(R.dtype), R]),
    )
    cross = _sum_of_products(MR, g[:, :, None] * X[:, None, :])  # [(k f), (l e)]
    own = own.reshape(K, K, width, width).transpose(0, 2, 1, 3)
    cross = cross.reshape(K, width, K, width).transpose(0, 3, 2, 1)
    size = K * width
    schur = own.reshape(size, size) - cross.reshape(size, size) - cross.reshape(size, size).T
    diagonal = jnp.tile(arrow.decay.astype(schur.dtype) - shift, K)
    return Factored(arrow, M, inverses, schur + jnp.diag(diagonal))


def with_corner(factored: Factored, right: Params, corner: Inexact[Array, " size"]) -> Params:
    """The solution of (H - tI) v = right whose (W, b) part is `corner`."""
    right = _in_its_type(factored, right)
    d = factored.arrow.W.shape[1]
    V = corner.reshape(len(factored.arrow.W), d + 1)
    g, X = factored.arrow.gradients, factored.arrow.X
    # C_i' (V) = M_i' (V x_i) + V' g_i over the columns of W
    coupled = _dot("ikf,ik->if", factored.couplings, _dot("ie,ke->ik", X, V))
    coupled = coupled + _dot("ik,kf->if", g, V[:, :d])
    return Params(
        W=V[:, :d],
        H=_dot("ife,ie->if", factored.inverses, right.H - coupled),
        b=V[:, d],
    )


def corner_right(factored: Factored, right: Params) -> Inexact[Array, " size"]:
    """The right-hand side that S(t) sees: that of (W, b) less sum_i C_i R_i of that of h_i."""
    right = _in_its_type(factored, right)
    R_right = _dot("ife,ie->if", factored.inverses, right.H)
    through = _dot("ikf,if->ik", factored.couplings, R_right)
    of_W = right.W - _dot("ik,ie->ke", factored.arrow.gradients, R_right)
    corner = jnp.concatenate([of_W, right.b[:, None]], axis=1)
    return (corner - _dot("ik,ie->ke", through, factored.arrow.X)).reshape(-1)


def _in_its_type(factored: Factored, right: Params) -> Params:
    """A right-hand side as numbers of the kind that the shift is: real or complex."""
    return jax.tree.map(lambda leaf: leaf.astype(factored.schur.dtype), right)


def _sum_of_products(
    left: Inexact[Array, "a b rows"], right: Inexact[Array, "rows c d"]
) -> Inexact[Array, "ab cd"]:
    """sum_i left_i (outer) right_i, as one matrix product.

    Rows come last in the left factor: CPUs take 1.7 times as long for a transposed one.
    """
    rows = len(right)
    return _dot("ai,ib->ab", left.reshape(-1, rows), right.reshape(rows, -1))


def _rows_last(array: Inexact[Array, "rows a b"]) -> Inexact[Array, "a b rows"]:
    return array.transpose(1, 2, 0)


def _dot(path: str, left: jax.Array, right: jax.Array) -> jax.Array:
    dtype = np.promote_types(left.dtype, right.dtype)
    return jnp.einsum(path, left.astype(dtype), right.astype(dtype), precision=_PRECISION)
