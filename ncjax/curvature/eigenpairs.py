"""Eigenpairs at the ends of a spectrum, each checked by a fresh product: dense or by Lanczos."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ncjax import checks
from ncjax.curvature import lanczos
from ncjax.curvature.dense import check_basis_memory, check_dense_memory, matrix
from ncjax.curvature.program import Function, Local, Located, locate
from ncjax.types import Scalar

Backend = Literal["auto", "dense", "lanczos"]
BACKENDS = ("auto", "dense", "lanczos")
ENDS = ("SA", "LA", "BE")
DENSE_LIMIT = 1000
"""Up to this many parameters "auto" means dense: eigh takes well under a second there."""


def choose_backend(backend: str, size: int) -> str:
    """What "auto" means for p = size parameters: "dense" or "lanczos"."""
    checks.check_choice("backend", backend, BACKENDS)
    if backend == "auto":
        return "dense" if size <= DENSE_LIMIT else "lanczos"
    return backend


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs, and how far each can be trusted.

    Attributes:
        eigenvalues: Rayleigh quotients v'Hv, ascending, `[k]`.
        eigenvectors: a pytree like the point, each leaf with a leading axis `[k, ...]`; of unit
            norm over the whole pytree.
        residuals: ||Hv - (v'Hv) v|| of a fresh product, `[k]`. Some true eigenvalue lies within it
            of the one claimed; and the smallest is never above any Rayleigh quotient.
        converged: whether the residual is at most the tolerance, bool `[k]`.
        breakdowns: times the Krylov space was exhausted and a random vector went on, int scalar; 0
            if dense. Above 0 it says that the spectrum is degenerate.
        scale: estimate of ||H||, from below (exact if dense).
        tolerance: that residuals were held against.
        value: f at the point; None for a bare matrix.
        gradient_norm: at the point; None for a bare matrix.
        num_steps: products made; p if dense.
        missed: with 99 % probability no eigenvalue lies beyond the outermost Ritz values by more
            than this share of the whole spread (`spread_missed`); 0 if dense, NaN with a start of
            your own or a rounded basis.
        backend: "dense" or "lanczos".
    """

    eigenvalues: jax.Array
    eigenvectors: Any
    residuals: jax.Array
    converged: jax.Array
    breakdowns: jax.Array
    scale: jax.Array
    tolerance: jax.Array
    value: jax.Array | None
    gradient_norm: jax.Array | None
    num_steps: int = dataclasses.field(metadata={"static": True})
    missed: float = dataclasses.field(metadata={"static": True})
    backend: str = dataclasses.field(metadata={"static": True})

    def top(self, k: int) -> Eigenpairs:
        """The k largest of these, ascending."""
        return self._taken(slice(len(self.eigenvalues) - k, None), k)

    def bottom(self, k: int) -> Eigenpairs:
        """The k smallest of these, ascending."""
        return self._taken(slice(0, k), k)

    def _taken(self, part: slice, k: int) -> Eigenpairs:
        checks.check_count("k", k, 1)
        if k > len(self.eigenvalues):
            raise checks.reject("k", k, f"at most {len(self.eigenvalues)}, the pairs at hand")
        return dataclasses.replace(
            self,
            eigenvalues=self.eigenvalues[part],
            eigenvectors=jax.tree.map(lambda leaf: leaf[part], self.eigenvectors),
            residuals=self.residuals[part],
            converged=self.converged[part],
        )


def extreme_eigenpairs(
    f: Function,
    params: Any,
    k: int | tuple[int, int],
    which: str = "SA",
    *,
    num_steps: int | None = None,
    key: jax.Array | None = None,
    backend: Backend = "auto",
    block: int = 1,
    start: Any = None,
    tol: float | None = None,
    basis_dtype: Any = None,
) -> Eigenpairs:
    r"""Eigenpairs at the ends of a Hessian's spectrum.

    Args:
        f: `f(params) -> scalar`, whose Hessian is meant; or a symmetric matrix by its products,
            `f(vector) -> vector` over pytrees like params; or an `Operator` (full data,
            Gauss-Newton). One function object is compiled once.
        params: the point, a pytree of real floating-point arrays; for a matrix any vector of its
            shapes.
        k: how many; for "BE" also a pair (smallest, largest).
        which: as in SciPy: "SA" the algebraically smallest, "LA" the largest, "BE" half from each
            end (one more from the upper if k is odd). Both ends come from one run.
        num_steps: products; at most p are made. By default 4k + 60, which suits a spectrum with
            gaps; `converged` tells whether it was enough. The basis takes num_steps p numbers.
        key: typed random key of start vectors and replacements; `jax.random.key(0)` if None.
        backend: "dense" forms the matrix, "lanczos" needs products alone, "auto" is dense up to
            1,000 parameters.
        block: start vectors, 1 to 4. More find multiplicities sooner and cost more steps.
        start: the first start vector, a pytree like params; random if None. With one given
            `missed` is not known (NaN).
        tol: a pair has converged if its residual is at most tol ||H||; sqrt(epsilon) if None.
        basis_dtype: of the stored basis, such as `jnp.float32` for float64 problems or
            `jnp.bfloat16`. Residuals stay those of full-precision products. What is kept between
            calls shrinks; the peak does not, as each step widens the rows for its arithmetic.

    Returns:
        `Eigenpairs`, ascending. Works under `jit` and `vmap` over params.

    Raises:
        InputError: params that are complex, integer, empty or not finite; k outside 1 .. p; unknown
            `which` or backend; a function that draws random numbers in Python, or is not finite at
            params; a map that is not linear and symmetric (looked at outside of `jit` and `vmap`);
            a matrix or basis beyond memory.

    Examples:
        >>> import jax.numpy as jnp
        >>> pairs = extreme_eigenpairs(lambda x: x[0] ** 2 - x[1] ** 2 + x[2] ** 4, jnp.ones(3), 2)
        >>> pairs.eigenvalues
        Array([-2.,  2.], dtype=float32)
    """
    located = locate(f, params)
    low, high = _counts(k, which, located.size)
    backend = choose_backend(backend, located.size)
    eps = float(jnp.finfo(located.dtype).eps)
    tol = math.sqrt(eps) if tol is None else tol
    checks.check_range("tol", tol, 0.0, closed=False)
    if backend == "dense":
        check_dense_memory(located)
        return located.run(_Dense(low, high), tol)
    settings = lanczos_settings(located, low + high, num_steps, block, basis_dtype)
    if start is not None:
        checks.check_like("start", start, "params", params)
        checks.check_finite("start", jax.flatten_util.ravel_pytree(start)[0])
    key = jax.random.key(0) if key is None else key
    pairs, asymmetry = located.run(_Lanczos(settings, low, high), tol, key, start)
    check_symmetric(asymmetry, pairs.scale)
    return pairs


def dense_eigenpairs(f: Function, params: Any) -> Eigenpairs:
    """All eigenpairs of a Hessian or another operator, by its matrix.

    Args:
        f: as in `extreme_eigenpairs`.
        params: the point.

    Returns:
        `Eigenpairs` with k = p. Maps over points with `vmap`.

    Raises:
        InputError: as `extreme_eigenpairs`; more parameters than memory allows.

    Examples:
        >>> import jax.numpy as jnp
        >>> pairs = dense_eigenpairs(lambda p: p[0] ** 2 - p[1] ** 2, (jnp.zeros(()), jnp.ones(())))
        >>> pairs.eigenvalues
        Array([-2.,  2.], dtype=float32)
    """
    size = locate(f, params).size
    return extreme_eigenpairs(f, params, size, backend="dense")


@dataclasses.dataclass(frozen=True)
class LanczosSettings:
    """The static settings of a run.

    Attributes:
        num_steps: products.
        block: start vectors.
        dtype: name of the computation's type.
        basis_dtype: name of the stored basis's type.
    """

    num_steps: int
    block: int
    dtype: str
    basis_dtype: str

    def missed(self, size: int) -> float:
        """`spread_missed` of a run of these settings; NaN if its basis is rounded."""
        if self.basis_dtype != self.dtype:
            return math.nan
        return lanczos.spread_missed(self.num_steps, size, self.block)


def lanczos_settings(
    located: Located, k: int, num_steps: int | None, block: int, basis_dtype: Any
) -> LanczosSettings:
    """Settings that fit the problem; the arguments are those of `extreme_eigenpairs`."""
    num_steps = 4 * k + 60 if num_steps is None else num_steps
    checks.check_count("num_steps", num_steps, 1)
    num_steps = min(num_steps, located.size)
    if k > num_steps:
        raise checks.reject("num_steps", num_steps, f"at least k = {k}", "Ask for more steps.")
    checks.check_count("block", block, 1)
    if block > 4:
        raise checks.reject("block", block, "1 to 4")
    basis_dtype = located.dtype if basis_dtype is None else jnp.dtype(basis_dtype)
    if not jnp.issubdtype(basis_dtype, jnp.floating):
        raise checks.reject("basis_dtype", basis_dtype, "a floating-point type")
    check_basis_memory(located, num_steps, basis_dtype)
    return LanczosSettings(num_steps, block, str(located.dtype), str(basis_dtype))


def check_symmetric(asymmetry: jax.Array, scale: jax.Array) -> None:
    """Refuses products that can't be those of a symmetric matrix."""
    if not checks.is_concrete((asymmetry, scale)):
        return
    share = float(asymmetry) / max(float(scale), 1e-300)
    if share > math.sqrt(float(jnp.finfo(scale.dtype).eps)):
        got = f"products that differ from their transpose by {share:.1e} of the norm"
        raise checks.reject("f", got, "symmetric", "For a matrix A, give (A + A')/2.")


def _counts(k: int | tuple[int, int], which: str, size: int) -> tuple[int, int]:
    """How many pairs from the lower and from the upper end."""
    checks.check_choice("which", which, ENDS)
    if isinstance(k, tuple):
        if which != "BE" or len(k) != 2:
            raise checks.reject("k", k, "an integer, or a pair with which='BE'")
        low, high = k
        for count in k:
            checks.check_count("k", count, 0)
    else:
        checks.check_count("k", k, 1)
        low, high = {"SA": (k, 0), "LA": (0, k), "BE": (k // 2, k - k // 2)}[which]
    if not 1 <= low + high <= size:
        raise checks.reject("k", k, f"1 to {size}, the number of parameters")
    return low, high


@dataclasses.dataclass(frozen=True)
class _Dense:
    low: int
    high: int

    def __call__(self, local: Local, tol: Scalar) -> Eigenpairs:
        return dense_pairs(local, self.low, self.high, tol)[0]


def dense_pairs(local: Local, low: int, high: int, tol: Scalar) -> tuple[Eigenpairs, jax.Array]:
    """Eigenpairs from both ends of the matrix, and all its eigenvalues."""
    values, columns = jnp.linalg.eigh(matrix(local))
    pairs = checked_pairs(
        local,
        ends(columns.T, low, high),
        tol,
        scale=jnp.abs(values).max(),
        breakdowns=jnp.zeros((), jnp.int32),
        num_steps=len(local.point),
        missed=0.0,
        backend="dense",
    )
    return pairs, values


@dataclasses.dataclass(frozen=True)
class _Lanczos:
    settings: LanczosSettings
    low: int
    high: int

    def __call__(
        self, local: Local, tol: Scalar, key: jax.Array, start: Any
    ) -> tuple[Eigenpairs, jax.Array]:
        first = None if start is None else jax.flatten_util.ravel_pytree(start)[0]
        state = begin(self.settings, key, len(local.point), first)
        state = lanczos.advance(local.product, state, len(state.couplings), self.settings.block)
        pairs, _, asymmetry = finish(
            local, state, self.settings, self.low, self.high, tol, first is None
        )
        return pairs, asymmetry


def begin(
    settings: LanczosSettings, key: jax.Array, size: int, first: jax.Array | None = None
) -> lanczos.Krylov:
    """The state of a run before its first product."""
    return lanczos.start(
        key,
        size,
        settings.num_steps,
        settings.block,
        jnp.dtype(settings.dtype),
        jnp.dtype(settings.basis_dtype),
        first,
    )


def finish(
    local: Local,
    state: lanczos.Krylov,
    settings: LanczosSettings,
    low: int,
    high: int,
    tol: Scalar,
    random_start: bool = True,
) -> tuple[Eigenpairs, jax.Array, jax.Array]:
    """The eigenpairs of a run that has made its products, all Ritz values, the asymmetry seen."""
    values, coefficients = lanczos.ritz(state)
    vectors = lanczos.ritz_vectors(state, ends(coefficients.T, low, high).T)
    pairs = checked_pairs(
        local,
        vectors,
        tol,
        scale=jnp.maximum(state.scale, jnp.abs(values).max()),
        breakdowns=state.breakdowns,
        num_steps=settings.num_steps,
        missed=settings.missed(len(local.point)) if random_start else math.nan,
        backend="lanczos",
    )
    rounded = settings.basis_dtype != settings.dtype
    asymmetry = lanczos.asymmetry(state, settings.block)
    return pairs, values, jnp.zeros_like(asymmetry) if rounded else asymmetry


def ends(rows: jax.Array, low: int, high: int) -> jax.Array:
    """The first `low` and the last `high` rows."""
    return jnp.concatenate([rows[:low], rows[len(rows) - high :]])


def checked_pairs(
    local: Local, vectors: jax.Array, tol: Scalar, *, scale: jax.Array, **facts: Any
) -> Eigenpairs:
    """Pairs from unit row vectors, with values and residuals from fresh products."""

    def examined(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        image = local.product(vector)
        value = vector @ image
        return value, lanczos.norm(image - value * vector)

    values, residuals = jax.lax.map(examined, vectors)
    order = jnp.argsort(values)
    scale = jnp.maximum(scale, jnp.abs(values).max())
    tolerance = jnp.asarray(tol, scale.dtype) * scale
    return Eigenpairs(
        eigenvalues=values[order],
        eigenvectors=jax.vmap(local.unravel)(vectors[order]),
        residuals=residuals[order],
        converged=residuals[order] <= tolerance,
        scale=scale,
        tolerance=tolerance,
        value=local.value,
        gradient_norm=None if local.gradient is None else lanczos.norm(local.gradient),
        **facts,
    )
