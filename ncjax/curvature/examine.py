"""What a point is: strict saddle, no negative curvature found, not critical, or inconclusive."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks
from ncjax.curvature import lanczos
from ncjax.curvature.dense import check_dense_memory, rounding
from ncjax.curvature.eigenpairs import (
    Backend,
    Eigenpairs,
    LanczosSettings,
    begin,
    check_symmetric,
    choose_backend,
    dense_pairs,
    finish,
    lanczos_settings,
)
from ncjax.curvature.program import Function, Local, locate, locate_function
from ncjax.curvature.verdict import Verdict
from ncjax.types import AnyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Examination:
    """The evidence about a point, and the verdict that it supports.

    Attributes:
        verdict: a `Verdict`, as an int; `label` says it in words.
        value: f at the point.
        gradient_norm: Euclidean norm of the gradient.
        gradient_tolerance: what it was held against.
        escape_value: v'Hv of a fresh product, for the unit vector v of lowest curvature found. The
            smallest eigenvalue is never above it (rounding apart), converged or not.
        escape_direction: v, a pytree like the point.
        escape_residual: ||Hv - escape_value v||; some eigenvalue is that near to `escape_value`.
        converged: whether that residual is small against ||H|| (below sqrt(epsilon) of it).
        curvature_tolerance: eigenvalues within it of zero count as zero; a saddle needs more.
        denial_tolerance: rounding plus 4 ||gradient|| / max(1, ||params||), about what a flat orbit
            shows this far from its minimum. Between it and `curvature_tolerance` the verdict
            is inconclusive.
        negative: eigenvalues below -curvature_tolerance. Exact if dense. By Lanczos a number that
            is proved to be there (a count of Ritz values, which interlace): a lower bound.
        zero: eigenvalues within the tolerance; None by Lanczos, which can't count them.
        positive: as `negative`, above the tolerance.
        largest: largest eigenvalue, or Ritz value.
        scale: ||H||, by Lanczos an estimate from below.
        breakdowns: as in `Eigenpairs`.
        missed: as in `Eigenpairs`.
        backend: "dense" or "lanczos".
    """

    verdict: jax.Array
    value: jax.Array
    gradient_norm: jax.Array
    gradient_tolerance: jax.Array
    escape_value: jax.Array
    escape_direction: Any
    escape_residual: jax.Array
    converged: jax.Array
    curvature_tolerance: jax.Array
    denial_tolerance: jax.Array
    negative: jax.Array
    zero: jax.Array | None
    positive: jax.Array
    largest: jax.Array
    scale: jax.Array
    breakdowns: jax.Array
    missed: float = dataclasses.field(metadata={"static": True})
    backend: str = dataclasses.field(metadata={"static": True})

    @property
    def label(self) -> str:
        """The verdict in words, for a single (unbatched) point."""
        return Verdict(int(self.verdict)).label

    @property
    def lower_bound(self) -> AnyArray | np.floating:
        """A number that the smallest eigenvalue exceeds with 99 % probability (rounding apart).

        By Lanczos the smallest Ritz value less `missed` of the whole spread, which is at most
        1 / (1 - 2 missed) of the spread found; if dense the smallest eigenvalue itself. NaN where
        the run was too short to say.
        """
        share = self.missed / (1 - 2 * self.missed) if self.missed < 0.5 else float("nan")
        return self.escape_value - share * (self.largest - self.escape_value)


def examine(
    f: Function,
    params: Any,
    *,
    gradient_tol: float | None = None,
    curvature_tol: float | None = None,
    backend: Backend = "auto",
    num_steps: int | None = None,
    block: int = 1,
    key: jax.Array | None = None,
    confirm: bool = False,
) -> Examination:
    """Examines a point of f by gradient and curvature.

    The verdict, the first that applies:

    1. `not_critical`: the gradient norm exceeds gradient_tol.
    2. `strict_saddle`: the recomputed v'Hv of a unit v lies below -curvature_tol, which is in
       itself a proof of a negative eigenvalue, whether or not the eigenpair has converged.
    3. `no_negative_curvature_found`: v'Hv is not below -`denial_tolerance`, and the lowest pair has
       converged so far that v'Hv less its residual is not below -curvature_tol. Not a proof of a
       minimum: along directions of zero curvature f may still fall, and Lanczos may have missed a
       direction (`lower_bound` says how negative it can be).
    4. `inconclusive`: there is negative curvature, but no more than the remaining gradient may
       explain, or Lanczos has not converged. Solve to a smaller gradient, or take more steps.

    Args:
        f: `f(params) -> scalar`, or an `Operator` of one (`data_hessian`).
        params: the point.
        gradient_tol: an absolute number. If None sqrt(epsilon) ||H|| max(1, ||params||): a
            Newton step in a stiff direction would move the point by that share of its size only.
        curvature_tol: an absolute number, raised to 100 epsilon ||H||, the level of rounding, if it
            is below. If None the larger of that and sqrt(rho ||gradient||), with
            rho = ||H|| / max(1, ||params||): near a minimiser, short of it by what the gradient
            says, curvature can be that negative. A smaller gradient makes the verdict sharper.
        backend: "dense" (exact counts), "lanczos", or "auto": dense up to 1,000 parameters.
        num_steps: products of Lanczos; 100 if None.
        block: start vectors of Lanczos.
        key: of the start vectors; `jax.random.key(0)` if None.
        confirm: recompute gradient, v'Hv and residual in float64 on the host and decide by them; v
            is still that of the search. For float32 problems near the edge, and for devices
            without float64. f must follow the precision of its params.

    Returns:
        `Examination`. Works under `jit` and `vmap` over params (without `confirm`).

    Raises:
        InputError: as `extreme_eigenpairs`; a negative tolerance; a bare matrix, which has no
            gradient, or a Gauss-Newton matrix, which shows no negative curvature.

    Examples:
        >>> import jax.numpy as jnp
        >>> found = examine(lambda x: x[0] ** 2 - x[1] ** 2, jnp.zeros(2))
        >>> found.label, int(found.negative), int(found.positive), float(found.escape_value)
        ('strict_saddle', 1, 1, -2.0)
    """
    located = locate_function(f, params)
    backend = choose_backend(backend, located.size)
    for name, tol in {"gradient_tol": gradient_tol, "curvature_tol": curvature_tol}.items():
        checks.check_range(name, 0.0 if tol is None else tol, 0.0)
    settings = None
    if backend == "dense":
        check_dense_memory(located)
    else:
        num_steps = 100 if num_steps is None else num_steps
        settings = lanczos_settings(located, 1, num_steps, block, None)
    key = jax.random.key(0) if key is None else key
    found, asymmetry = located.run(_Examine(settings), key, gradient_tol, curvature_tol)
    check_symmetric(asymmetry, found.scale)
    return confirmed(found, f, params, gradient_tol, curvature_tol) if confirm else found


@dataclasses.dataclass(frozen=True)
class _Examine:
    """The algorithm; dense without settings."""

    settings: LanczosSettings | None

    def __call__(
        self, local: Local, key: jax.Array, gradient_tol: Any, curvature_tol: Any
    ) -> tuple[Examination, jax.Array]:
        tol = float(jnp.finfo(local.point.dtype).eps) ** 0.5
        if self.settings is None:
            pairs, values = dense_pairs(local, 1, 0, tol)
            asymmetry = jnp.zeros_like(local.value)
        else:
            state = begin(self.settings, key, len(local.point))
            steps, block = self.settings.num_steps, self.settings.block
            state = lanczos.advance(local.product, state, steps, block)
            pairs, values, asymmetry = finish(local, state, self.settings, 1, 0, tol)
        return evidence(local, pairs, values, gradient_tol, curvature_tol), asymmetry


def evidence(
    local: Local,
    pairs: Eigenpairs,
    values: jax.Array,
    gradient_tol: Any = None,
    curvature_tol: Any = None,
) -> Examination:
    """The examination that eigenpairs, the lowest first, and all (Ritz) values support."""
    dense = pairs.backend == "dense"
    size = jnp.maximum(lanczos.norm(local.point), 1)
    limits = _tolerances(gradient_tol, curvature_tol, pairs.gradient_norm, pairs.scale, size)
    tolerance = limits["curvature_tolerance"]
    found = Examination(
        verdict=jnp.int32(Verdict.INCONCLUSIVE),
        value=local.value,
        gradient_norm=pairs.gradient_norm,
        escape_value=pairs.eigenvalues[0],
        escape_direction=jax.tree.map(lambda rows: rows[0], pairs.eigenvectors),
        escape_residual=pairs.residuals[0],
        converged=pairs.converged[0] | dense,
        **limits,
        negative=(values < -tolerance).sum(),
        zero=(jnp.abs(values) <= tolerance).sum() if dense else None,
        positive=(values > tolerance).sum(),
        largest=values[-1],
        scale=pairs.scale,
        breakdowns=pairs.breakdowns,
        missed=pairs.missed,
        backend=pairs.backend,
    )
    return _judged(found)


def _tolerances(
    gradient_tol: Any, curvature_tol: Any, gradient_norm: Any, scale: jax.Array, size: jax.Array
) -> dict[str, jax.Array]:
    """What was asked for, or the defaults of `examine`; `size` is max(1, ||params||)."""
    if gradient_tol is None:
        gradient_tol = float(jnp.finfo(scale.dtype).eps) ** 0.5 * scale * size
    if curvature_tol is None:
        curvature_tol = jnp.sqrt(scale / size) * jnp.sqrt(gradient_norm)
    return {
        "gradient_tolerance": jnp.asarray(gradient_tol, scale.dtype),
        "curvature_tolerance": jnp.maximum(
            jnp.asarray(curvature_tol, scale.dtype), rounding(scale)
        ),
        "denial_tolerance": rounding(scale) + 4 * gradient_norm / size,
    }


def _judged(found: Examination) -> Examination:
    """The verdict that the numbers support."""
    verdict = jnp.select(
        [
            ~(found.gradient_norm <= found.gradient_tolerance),
            found.escape_value < -found.curvature_tolerance,
            found.converged
            & (found.escape_value - found.escape_residual >= -found.curvature_tolerance)
            & (found.escape_value >= -found.denial_tolerance),
        ],
        [
            jnp.int32(Verdict.NOT_CRITICAL),
            jnp.int32(Verdict.STRICT_SADDLE),
            jnp.int32(Verdict.NO_NEGATIVE_CURVATURE_FOUND),
        ],
        jnp.int32(Verdict.INCONCLUSIVE),
    )
    return dataclasses.replace(found, verdict=verdict)


@dataclasses.dataclass(frozen=True)
class _Recompute:
    """The algorithm: the decisive numbers for a given v, and the tolerances they ask for."""

    def __call__(
        self, local: Local, direction: Any, scale: jax.Array, gradient_tol: Any, curvature_tol: Any
    ) -> dict[str, jax.Array]:
        vector = jax.flatten_util.ravel_pytree(direction)[0]
        vector = vector / lanczos.norm(vector)
        image = local.product(vector)
        value, gradient_norm = vector @ image, lanczos.norm(local.gradient)
        size = jnp.maximum(lanczos.norm(local.point), 1)
        return {
            "value": local.value,
            "gradient_norm": gradient_norm,
            "escape_value": value,
            "escape_residual": lanczos.norm(image - value * vector),
            **_tolerances(gradient_tol, curvature_tol, gradient_norm, scale, size),
        }


def confirmed(
    found: Examination,
    f: Function,
    params: Any,
    gradient_tol: float | None = None,
    curvature_tol: float | None = None,
) -> Examination:
    """The same evidence with its decisive numbers in float64 on the host, as NumPy scalars."""
    if not checks.is_concrete(params):
        raise checks.reject("confirm", True, "False under `jit` and `vmap`")
    if gradient_tol is None:  # that of the search's precision: f was solved in it
        gradient_tol = float(found.gradient_tolerance)
    operator = locate(f, params).operator
    host = jax.local_devices(backend="cpu")[0]
    # What f closes over keeps its precision: let it be promoted.
    standard = jax.numpy_dtype_promotion("standard")
    with jax.enable_x64(True), jax.default_device(host), standard:
        args, point, direction, scale = _widened(
            (operator.args, params, found.escape_direction, found.scale)
        )
        backend = None if operator.backend is None else "vmap"
        wide = dataclasses.replace(operator, args=args, backend=backend)
        numbers = locate(wide, point).run(
            _Recompute(), direction, scale, gradient_tol, curvature_tol
        )
        judged = _judged(dataclasses.replace(found, **numbers))
    on_host = {name: np.asarray(value) for name, value in numbers.items()}
    # The counts are the search's; what float64 has proved since is added to them.
    proved = int(numbers["escape_value"] < -numbers["curvature_tolerance"])
    added = max(proved - int(found.negative), 0)
    return dataclasses.replace(
        judged,
        **on_host,
        largest=np.asarray(found.largest),
        negative=found.negative + added,
        zero=None if found.zero is None else found.zero - added,
    )


def _widened(tree: Any) -> Any:
    """Floating-point leaves in float64, all on the default device."""

    def wide(leaf: Any) -> jax.Array:
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended):  # a random key
            return leaf
        array = np.asarray(leaf)
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        return jnp.asarray(array, jnp.float64 if floating else array.dtype)

    return jax.tree.map(wide, tree)
