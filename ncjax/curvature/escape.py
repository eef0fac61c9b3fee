"""Leaving saddles: a step along negative curvature, and the way down to where there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ncjax import checks
from ncjax.curvature import lanczos
from ncjax.curvature.examine import Backend, Examination, examine
from ncjax.curvature.program import Function, Local, locate, locate_function
from ncjax.curvature.verdict import Verdict
from ncjax.minimize import lbfgs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Step:
    """A step along a direction of negative curvature.

    Attributes:
        params: the point after the step.
        length: of the step, with its sign; 0 if no length was found to decrease f.
        value: f there.
        decrease: f before less f after, 0 or more.
    """

    params: Any
    length: jax.Array
    value: jax.Array
    decrease: jax.Array


@dataclasses.dataclass(frozen=True)
class Escape:
    """The way from a point to one without negative curvature.

    Attributes:
        params: the last point.
        converged: whether the last verdict is `no_negative_curvature_found`.
        examinations: of the points where the minimisation stopped, the last of `params`; the
            verdicts before it are of the saddles passed.
        values: f at each of them.
    """

    params: Any
    converged: bool
    examinations: tuple[Examination, ...]
    values: tuple[float, ...]


def negative_curvature_step(f: Function, params: Any, direction: Any) -> Step:
    """Steps along +-direction so that f decreases.

    The sign is that of descent; the length starts at a tenth of the point's size (at least 0.1),
    is halved until f has fallen by a quarter of what the quadratic model promises, then doubled
    while that makes f fall further.

    Args:
        f: as in `examine`.
        params: the point.
        direction: a unit vector, a pytree like params, such as `Examination.escape_direction`.

    Returns:
        `Step`. Works under `jit` and `vmap`.

    Raises:
        InputError: as `examine`; a direction unlike params, or zero.
    """
    located = locate_function(f, params)
    checks.check_like("direction", direction, "params", params)
    flat = jax.flatten_util.ravel_pytree(direction)[0]
    checks.check_finite("direction", flat)
    if checks.is_concrete(flat) and not flat.any():
        raise checks.reject("direction", "zero", "a unit vector")
    return located.run(_NegativeCurvatureStep(), direction)


def escape(
    f: Function,
    params: Any,
    *,
    gradient_tol: float | None = None,
    curvature_tol: float | None = None,
    max_saddles: int = 10,
    max_steps: int = 1000,
    backend: Backend = "auto",
    num_steps: int | None = None,
    key: jax.Array | None = None,
) -> Escape:
    """Goes down from a point to a second-order stationary one, past every saddle met.

    A strict saddle is left along its escape direction (`negative_curvature_step`); from there, and
    from a point that is not critical, L-BFGS minimises; where it stops is examined again. A point
    that stays inconclusive is minimised further, to a tenth of its gradient at a time.

    Args:
        f: as in `examine`.
        params: the start.
        gradient_tol: as in `examine`; L-BFGS stops at half of it.
        curvature_tol: as in `examine`.
        max_saddles: give up after leaving this many.
        max_steps: of L-BFGS at a time; it is called again while that halves the gradient.
        backend: as in `examine`.
        num_steps: as in `examine`.
        key: as in `examine`; of the i-th examination `fold_in(key, i)`.

    Returns:
        `Escape`.

    Raises:
        InputError: as `examine`.

    Examples:
        >>> import jax.numpy as jnp
        >>> way = escape(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, jnp.zeros(2))
        >>> way.converged, [round(v, 3) for v in way.values]
        (True, [1.0, 0.0])
    """
    checks.check_count("max_saddles", max_saddles, 0)
    checks.check_count("max_steps", max_steps, 1)
    key = jax.random.key(0) if key is None else key
    settings = {
        "gradient_tol": gradient_tol,
        "curvature_tol": curvature_tol,
        "backend": backend,
        "num_steps": num_steps,
    }
    found = [examine(f, params, key=key, **settings)]
    saddles = 0
    while True:
        verdict = Verdict(int(found[-1].verdict))
        if verdict is Verdict.STRICT_SADDLE and saddles < max_saddles:
            step = negative_curvature_step(f, params, found[-1].escape_direction)
            if not step.decrease > 0:
                break
            params, saddles = step.params, saddles + 1
        elif verdict not in _UNFINISHED or _stalled(found):
            break
        limit = found[-1].gradient_tolerance / 2
        if verdict is Verdict.INCONCLUSIVE:  # a smaller gradient may decide
            limit = jnp.minimum(limit, found[-1].gradient_norm / 10)
        params = locate(f, params).run(_Minimize(max_steps), limit)
        found.append(examine(f, params, key=jax.random.fold_in(key, len(found)), **settings))
    return Escape(
        params,
        verdict is Verdict.NO_NEGATIVE_CURVATURE_FOUND,
        tuple(found),
        tuple(float(one.value) for one in found),
    )


_UNFINISHED = (Verdict.NOT_CRITICAL, Verdict.INCONCLUSIVE)


def _stalled(found: list[Examination]) -> bool:
    """Whether two points in a row are undecided and the gradient has not even halved."""
    if len(found) < 2 or Verdict(int(found[-2].verdict)) not in _UNFINISHED:
        return False
    return not found[-1].gradient_norm < found[-2].gradient_norm / 2


@dataclasses.dataclass(frozen=True)
class _Minimize:
    """The algorithm: L-BFGS from the point."""

    max_steps: int

    def __call__(self, local: Local, gradient_tol: jax.Array) -> Any:
        point, _ = lbfgs(local.objective, local.point, gradient_tol, self.max_steps)
        return local.unravel(point)


@dataclasses.dataclass(frozen=True)
class _NegativeCurvatureStep:
    """The algorithm of `negative_curvature_step`."""

    halvings: int = 40
    doublings: int = 40

    def __call__(self, local: Local, direction: Any) -> Step:
        vector = jax.flatten_util.ravel_pytree(direction)[0].astype(local.point.dtype)
        vector = vector / lanczos.norm(vector)
        slope = local.gradient @ vector
        vector = jnp.where(slope > 0, -vector, vector)
        curvature = jnp.minimum(vector @ local.product(vector), 0)

        def at(length: jax.Array) -> jax.Array:
            return local.objective(local.point + length * vector)

        def too_long(carry: tuple) -> jax.Array:
            length, value, count = carry
            promised = -jnp.abs(slope) * length + 0.5 * curvature * length**2
            enough = (value <= local.value + 0.25 * promised) & (value < local.value)
            return ~enough & (count < self.halvings)

        def halved(carry: tuple) -> tuple:
            length, _, count = carry
            return length / 2, at(length / 2), count + 1

        def could_grow(carry: tuple) -> jax.Array:
            length, value, count = carry
            return (at(2 * length) < value) & (count < self.doublings)

        def doubled(carry: tuple) -> tuple:
            length, _, count = carry
            return 2 * length, at(2 * length), count + 1

        first = jnp.maximum(0.1 * lanczos.norm(local.point), 0.1)
        zero = jnp.zeros((), jnp.int32)
        length, value, _ = jax.lax.while_loop(too_long, halved, (first, at(first), zero))
        length, value, _ = jax.lax.while_loop(could_grow, doubled, (length, value, zero))
        fell = value < local.value
        length = jnp.where(fell, length, 0)
        return Step(
            params=local.unravel(local.point + length * vector),
            length=jnp.where(slope > 0, -length, length),
            value=jnp.where(fell, value, local.value),
            decrease=jnp.where(fell, local.value - value, 0),
        )
