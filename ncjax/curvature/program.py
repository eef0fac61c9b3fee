"""From a function and a point to one compiled program; bad input is refused before that.

An algorithm is a hashable callable `(local, *rest) -> pytree` of static settings; it sees the
operator as a product of flat vectors (`Local`) and never knows of data, devices or pytrees.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ncjax import checks, parallel
from ncjax.curvature.operators import LinearMap, Operator, Setup, hessian, linear_map


class Local(NamedTuple):
    """An operator at a point, over flat vectors.

    Attributes:
        product: the operator, `[p] -> [p]`.
        unravel: from a flat vector to a pytree like the point.
        point: `[p]`.
        value: f at the point, None for a bare matrix.
        gradient: of f, `[p]`; None for a bare matrix.
        objective: f of a flat point, with the gradient that the setup gives (devices joined).
    """

    product: Callable[[jax.Array], jax.Array]
    unravel: Callable[[jax.Array], Any]
    point: jax.Array
    value: jax.Array | None
    gradient: jax.Array | None
    objective: Callable[[jax.Array], jax.Array]


Function = Callable[..., Any] | Operator
"""What is examined: f(params) -> scalar, a matrix-vector product, or an `Operator`."""


@dataclasses.dataclass(frozen=True)
class Located:
    """An operator and a point that have passed all checks."""

    operator: Operator
    point: Any
    size: int
    dtype: jnp.dtype

    def run(self, algorithm: Callable[..., Any], *rest: Any) -> Any:
        """Compiles `algorithm(local, *rest)` at this point and runs it.

        Raises:
            InputError: the objective or its gradient is not finite here.
        """
        operator = self.operator
        program = _Program(algorithm, operator.setup)
        if operator.backend is None:
            finite, result = _jitted(program, self.point, rest, *operator.args)
        else:
            mapped = parallel.across_devices(
                program,
                in_axes=(None, None, *operator.axes),
                out_axes=None,
                backend=operator.backend,
                devices=operator.devices,
            )
            finite, result = mapped(self.point, rest, *operator.args)
        if checks.is_concrete(finite) and not finite:
            got = "a value, gradient or product that is NaN or infinite at params"
            raise checks.reject("f", got, "finite there", "Look for divergence or missing values.")
        return result


def locate(f: Function, params: Any) -> Located:
    """Checks a function and a point, and makes an operator of the function if it is none yet.

    Args:
        f: a scalar function of a pytree (its Hessian is meant), a linear map from the pytree to
            itself, or an `Operator`.
        params: the point; for a linear map any pytree of the right shapes. Half-precision leaves
            are taken to float32, mixed ones to their common type.

    Raises:
        InputError: no parameters, leaves that are not real floating point or not finite, a result
            of f that is neither a scalar nor like params, or a function that differs from call to
            call.
    """
    params = jax.tree.map(jnp.asarray, params)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    if size == 0:
        remedy = "If layers were chosen by a pattern, it matches none."
        raise checks.reject("params", "no parameters", "a pytree with at least one", remedy)
    for path, leaf in jax.tree.leaves_with_path(params):
        name = f"params{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            remedy = "Close over what is not differentiated."
            raise checks.reject(name, f"dtype {leaf.dtype}", "real floating point", remedy)
        checks.check_finite(name, leaf)
    params, dtype = _in_one_type(params)
    operator = f if isinstance(f, Operator) else _as_operator(f, params)
    try:
        hash(operator.setup)
    except TypeError as error:
        remedy = "Wrap it: `lambda params: f(params)`."
        raise checks.reject("f", f"{error}", "a hashable function", remedy) from error
    _check_deterministic(operator, params)
    located = Located(operator, params, size, dtype)
    if isinstance(operator.setup, LinearMap) and checks.is_concrete((params, operator.args)):
        _check_linear_and_symmetric(located)
    return located


def locate_function(f: Function, params: Any) -> Located:
    """As `locate`, for what needs a function's value, gradient and Hessian.

    Raises:
        InputError: also for a bare matrix or a Gauss-Newton matrix.
    """
    located = locate(f, params)
    if not located.operator.is_hessian:
        got = "a linear map or a Gauss-Newton matrix, which has no negative curvature to show"
        raise checks.reject("f", got, "a scalar function or the operator of its Hessian")
    return located


def _in_one_type(params: Any) -> tuple[Any, jnp.dtype]:
    """All leaves in their common type, but at least float32, and that type."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*jax.tree.leaves(params), jnp.float32)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params), dtype


def _as_operator(f: Callable[..., Any], params: Any) -> Operator:
    came = jax.eval_shape(f, params)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (came, params)]
    if getattr(came, "shape", None) == ():
        if jnp.issubdtype(came.dtype, jnp.floating):
            return hessian(f)
        raise checks.reject("f", f"a result of dtype {came.dtype}", "a real floating-point scalar")
    if shapes[0] == shapes[1]:
        return linear_map(f)
    accepted = "a scalar (f is differentiated) or a pytree like params (f is a linear map)"
    raise checks.reject("f", f"a result of shape {shapes[0]}", accepted)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The work of one device: set up, run the algorithm, look for what isn't finite."""

    algorithm: Callable[..., Any]
    setup: Setup

    def __call__(self, point: Any, rest: tuple, *args: Any) -> tuple[jax.Array, Any]:
        # Accelerators multiply float32 matrices in fewer digits unless told not to.
        with jax.default_matmul_precision("highest"):
            return self._run(point, rest, args)

    def _run(self, point: Any, rest: tuple, args: tuple) -> tuple[jax.Array, Any]:
        flat, unravel = ravel_pytree(point)
        value, gradient, product = self.setup(point, args)

        def both(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, gradient, _ = self.setup(unravel(vector), args)
            return value.astype(flat.dtype), ravel_pytree(gradient)[0]

        objective = jax.custom_vjp(lambda vector: both(vector)[0])
        objective.defvjp(both, lambda slope, cotangent: (cotangent * slope,))
        local = Local(
            product=lambda vector: ravel_pytree(product(unravel(vector)))[0],
            unravel=unravel,
            point=flat,
            value=None if value is None else value.astype(flat.dtype),
            gradient=None if gradient is None else ravel_pytree(gradient)[0],
            objective=objective,
        )
        result = self.algorithm(local, *rest)
        numbers = [x for x in jax.tree.leaves((value, gradient, result)) if _is_float(x)]
        finite = [jnp.isfinite(x).all() for x in numbers]
        return functools.reduce(jnp.logical_and, finite, jnp.asarray(True)), result


@dataclasses.dataclass(frozen=True)
class _Defects:
    """The algorithm: how far products are from linear and symmetric, as shares of their size."""

    def __call__(self, local: Local) -> tuple[jax.Array, jax.Array]:
        place = jnp.arange(len(local.point)).astype(local.point.dtype)
        v, w = jnp.cos(1.3 * place), jnp.sin(0.7 * place + 1)
        of_v, of_w, of_both = local.product(v), local.product(w), local.product(v - 2 * w)
        size = jnp.abs(of_v).max() + jnp.abs(of_w).max()
        linear = jnp.abs(of_both - of_v + 2 * of_w).max()
        symmetric = jnp.abs(w @ of_v - v @ of_w) / len(place)
        return tuple(defect / jnp.where(size > 0, size, 1) for defect in (linear, symmetric))


def _check_linear_and_symmetric(located: Located) -> None:
    limit = float(jnp.finfo(located.dtype).eps) ** 0.5
    defects = located.run(_Defects())
    if not checks.is_concrete(defects):  # inside an outer `jit`
        return
    for defect, word, remedy in zip(
        defects,
        ("linear", "symmetric"),
        ("An objective must return a scalar of shape ().", "For a matrix A, give (A + A')/2."),
        strict=True,
    ):
        if float(defect) > limit:
            got = f"a map that is not {word} (by {float(defect):.1e} of its size)"
            raise checks.reject(
                "f", got, "a linear and symmetric map, or a scalar function", remedy
            )


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


@functools.partial(jax.jit, static_argnums=0)
def _jitted(program: _Program, point: Any, rest: tuple, *args: Any) -> Any:
    return program(point, rest, *args)


def _check_deterministic(operator: Operator, params: Any) -> None:
    """Refuses an operator whose trace differs from one time to the next: it draws numbers."""
    leaves, structure = jax.tree.flatten((params, operator.args))
    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves)
    axes = None if operator.backend is None else operator.axes
    known = (operator.setup, axes, structure, shapes)
    if known in _DETERMINISTIC:
        return
    traces = [_trace(*known) for _ in range(2)]
    texts = [re.sub(r"0x[0-9a-f]+", "", str(trace.jaxpr)) for trace in traces]  # no addresses
    constants = [trace.consts for trace in traces]
    if texts[0] != texts[1] or not all(map(_alike, *constants)):
        raise checks.reject(
            "f",
            "a function that changes from call to call",
            "deterministic",
            "Fix its random numbers: dropout off, normalisation in inference mode, batch fixed.",
        )
    if checks.is_concrete(constants):  # else it would keep an outer trace alive
        if len(_DETERMINISTIC) == _REMEMBERED:
            _DETERMINISTIC.pop(next(iter(_DETERMINISTIC)))
        _DETERMINISTIC[known] = None


_REMEMBERED = 256
_DETERMINISTIC: dict[tuple, None] = {}
"""What has passed the check; the oldest goes first."""


def _trace(setup: Setup, axes: tuple[int | None, ...] | None, structure: Any, shapes: tuple) -> Any:
    def traced(point: Any, *args: Any) -> Any:  # a new function each time: traces are cached
        value, gradient, product = setup(point, args)
        return value, gradient, product(point)

    if axes is not None:
        traced = jax.vmap(traced, in_axes=(None, *axes), axis_name=parallel.AXIS)
    point, args = jax.tree.unflatten(structure, shapes)
    return jax.make_jaxpr(traced)(point, *args)


def _alike(first: Any, second: Any) -> bool:
    if first is second or not checks.is_concrete((first, second)):
        return True
    first, second = (np.asarray(jax.device_get(x)) for x in (first, second))
    return np.array_equal(first, second, equal_nan=_is_float(first))
