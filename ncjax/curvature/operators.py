"""Symmetric operators over pytrees: Hessians and Gauss-Newton matrices, of a function or over data.

An `Operator` keeps apart what is static (how to set the operator up at a point) and what is traced
(the arrays it needs), so that every algorithm on it compiles once per function and shape:

* `hessian(f, *args)`: linearises the gradient once per point and reuses it for every product;
* `gauss_newton(outputs, loss, *args)`: J' D J, with D the loss's Hessian in the outputs;
* `data_hessian`, `data_gauss_newton`: means over a data set, batch by batch, shared by devices;
* `linear_map(matvec, *args)`: any symmetric matrix, by its products.

Functions of this room also take `f(params) -> scalar`, or a matrix-vector product, and build the
operator themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ncjax import checks, parallel
from ncjax.curvature.products import hessian_product, inner
from ncjax.types import Scalar


class Parts(NamedTuple):
    """An operator set up at a point: value and gradient (None for a bare matrix), product."""

    value: Any
    gradient: Any
    product: Callable[[Any], Any]


Setup = Callable[[Any, tuple], Parts]


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """A symmetric operator on pytrees like a point, not yet bound to one.

    Attributes:
        setup: static and hashable; `setup(point, args)` gives value, gradient and product.
        args: arrays that the setup needs, traced.
        shared: how many of the args every device gets whole; the others have a leading axis of
            shards. Of no meaning on one device.
        backend: how devices share the work (`ncjax.parallel`); None for one device.
        devices: that share it; all of this process's if None.
        is_hessian: whether it is the Hessian of a function; Gauss-Newton matrices and bare ones
            allow no verdict about a point.
    """

    setup: Setup
    args: tuple = ()
    shared: int = 0
    backend: parallel.Backend | None = None
    devices: tuple[jax.Device, ...] | None = None
    is_hessian: bool = True

    @property
    def axes(self) -> tuple[int | None, ...]:
        """The mapped axis of each of the args."""
        return tuple(None if i < self.shared else 0 for i in range(len(self.args)))


def hessian(f: Callable[..., jax.Array], *args: Any) -> Operator:
    """The Hessian of `f(params, *args)` in params.

    Args:
        f: returns a scalar. One function object is compiled once; pass it large arrays as args
            rather than by closure.
        *args: arrays or pytrees of arrays, handed to f.
    """
    return Operator(_Hessian(f), args)


def gauss_newton(
    outputs: Callable[..., Any], loss: Callable[..., jax.Array], *args: Any
) -> Operator:
    """The generalised Gauss-Newton matrix J' D J of `loss(outputs(params, *args), *args)`.

    It is the Hessian without the curvature of `outputs`, and positive semi-definite where the loss
    is convex in the outputs.

    Args:
        outputs: of the network, `outputs(params, *args)`.
        loss: scalar, `loss(outputs, *args)`; D is its Hessian in the outputs.
        *args: arrays or pytrees of arrays, handed to both.
    """
    return Operator(_GaussNewton(outputs, loss), args, is_hessian=False)


def gauss_newton_product(
    outputs: Callable[[Any], Any], loss: Callable[[Any], jax.Array], params: Any, vector: Any
) -> Any:
    """The product of the generalised Gauss-Newton matrix of `loss(outputs(params))` with a vector.

    Args:
        outputs: `outputs(params)`, any pytree.
        loss: `loss(outputs)`, a scalar.
        params: the point.
        vector: a pytree of the structure and shapes of `params`.

    Returns:
        J' D J v, a pytree like `params`.

    Raises:
        InputError: the two pytrees differ in structure or shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> gauss_newton_product(lambda x: x**2, lambda z: (z**2).sum() / 2, 3.0, 1.0)
        Array(36., dtype=float32, weak_type=True)
    """
    checks.check_like("vector", vector, "params", params)
    return _GaussNewton(outputs, loss)(params, ()).product(vector)


def linear_map(matvec: Callable[..., Any], *args: Any) -> Operator:
    """A symmetric matrix given by its products, `matvec(vector, *args)`, over pytrees."""
    return Operator(LinearMap(matvec), args, is_hessian=False)


def data_hessian(
    loss: Callable[..., jax.Array],
    data: Sequence[Any],
    *,
    weight_decay: Scalar = 0.0,
    batch_size: int | None = None,
    backend: parallel.Backend | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Operator:
    """The Hessian of mean loss over a data set + weight_decay/2 ||params||^2.

    Args:
        loss: `loss(params, *examples) -> [B]`, one value per example, each of its own example only
            (batch normalisation in inference mode, no dropout).
        data: arrays `[N, ...]`, such as images and labels.
        weight_decay: lambda.
        batch_size: most examples that a device sees at once. All of its share if None: then the
            gradient is linearised once per point, and what it keeps for that stays in memory; with
            several batches it is computed again for each product. Padding of a last batch has no
            weight.
        backend: to share the examples among devices: "shard_map", "pmap", or "vmap" (virtual
            devices). One device if None.
        devices: to share among; all of this process's if None.

    Returns:
        `Operator`, whose value and gradient are those of the whole mean.

    Raises:
        InputError: no data, arrays of different lengths, a bad batch size or backend; once used, a
            loss that is not one value per example.
    """
    setup = _Hessian(_WeightedSum(loss))
    return _over_data(setup, data, weight_decay, batch_size, backend, devices)


def data_gauss_newton(
    outputs: Callable[..., Any],
    loss: Callable[..., jax.Array],
    data: Sequence[Any],
    *,
    weight_decay: Scalar = 0.0,
    batch_size: int | None = None,
    backend: parallel.Backend | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Operator:
    """The Gauss-Newton matrix of mean loss over a data set + weight_decay/2 ||params||^2.

    Args:
        outputs: `outputs(params, *inputs) -> [B, ...]`, such as logits.
        loss: `loss(outputs, labels) -> [B]`, one value per example.
        data: the inputs and, last, the labels; arrays `[N, ...]`.
        weight_decay: lambda; adds lambda to every eigenvalue.
        batch_size: as in `data_hessian`.
        backend: as in `data_hessian`.
        devices: as in `data_hessian`.

    Returns:
        `Operator`.

    Raises:
        InputError: as `data_hessian`.
    """
    setup = _GaussNewton(_FromInputs(outputs), _WeightedSum(_AgainstLabels(loss)))
    operator = _over_data(setup, data, weight_decay, batch_size, backend, devices)
    return dataclasses.replace(operator, is_hessian=False)


def _over_data(
    setup: Setup,
    data: Sequence[Any],
    weight_decay: Scalar,
    batch_size: int | None,
    backend: parallel.Backend | None,
    devices: Sequence[jax.Device] | None,
) -> Operator:
    checks.check_range("weight_decay", weight_decay, 0.0)
    if not isinstance(data, tuple | list):
        raise checks.reject("data", type(data).__name__, "a tuple of arrays, as (images, labels)")
    devices = tuple(jax.local_devices() if devices is None else devices)
    if not devices:
        raise checks.reject("devices", "none", "at least one device")
    if backend is not None:
        checks.check_choice("backend", backend, parallel.BACKENDS)
    shards = 1 if backend is None else len(devices)
    batches = parallel.shard_batches(tuple(data), shards, batch_size)
    if backend is None:
        batches = jax.tree.map(lambda x: x[0], batches)
    *arrays, mask = batches
    arrays = jax.tree.map(jnp.asarray, (mask, *arrays))
    args = (weight_decay, int(mask.sum()), *arrays)
    return Operator(_OverData(setup, backend is not None), args, 2, backend, devices)


@dataclasses.dataclass(frozen=True)
class _Hessian:
    f: Callable[..., jax.Array]

    def __call__(self, point: Any, args: tuple) -> Parts:
        return Parts(*hessian_product(lambda params: self.f(params, *args), point))


@dataclasses.dataclass(frozen=True)
class _GaussNewton:
    outputs: Callable[..., Any]
    loss: Callable[..., jax.Array]

    def __call__(self, point: Any, args: tuple) -> Parts:
        at_point, push = jax.linearize(lambda params: self.outputs(params, *args), point)
        pull = jax.linear_transpose(push, point)
        value, slope, bend = hessian_product(lambda out: self.loss(out, *args), at_point)
        return Parts(value, pull(slope)[0], lambda vector: pull(bend(push(vector)))[0])


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """The setup of `linear_map`."""

    matvec: Callable[..., Any]

    def __call__(self, point: Any, args: tuple) -> Parts:
        """The product alone; the point says no more than the shapes."""
        del point
        return Parts(None, None, lambda vector: self.matvec(vector, *args))


@dataclasses.dataclass(frozen=True)
class _OverData:
    """The mean of `part` over batches and devices, plus the decay.

    Args are the decay, the number of examples, which of them count, and the batches.
    """

    part: Setup
    sharded: bool

    def __call__(self, point: Any, args: tuple) -> Parts:
        decay, count, mask, *batches = args
        dtype = jnp.result_type(*jax.tree.leaves(point))
        decay = jnp.asarray(decay, dtype)
        # Divided here, so that the weights have the digits of the point.
        batches = (mask.astype(dtype) / jnp.asarray(count, dtype), *batches)

        def plus_decay(total: Any, vector: Any) -> Any:
            return jax.tree.map(lambda t, v: t + decay.astype(v.dtype) * v, total, vector)

        once = self.part(point, _first(batches)) if len(batches[0]) == 1 else None

        def product(vector: Any) -> Any:
            if once is None:
                total = summed(lambda batch: self.part(point, batch).product(vector), batches)
            else:
                total = once.product(vector)
            return plus_decay(self._joined(total), vector)

        fit = once or summed(lambda batch: self.part(point, batch)[:2], batches)
        value, gradient = self._joined(tuple(fit[:2]))
        value = value + 0.5 * decay * inner(point, point)
        return Parts(value, plus_decay(gradient, point), product)

    def _joined(self, total: Any) -> Any:
        return jax.lax.psum(total, parallel.AXIS) if self.sharded else total


def _first(batches: Sequence[Any]) -> tuple:
    return tuple(jax.tree.map(lambda x: x[0], batches))


def summed(of_batch: Callable[[tuple], Any], batches: Sequence[Any]) -> Any:
    """The sum over batches of what `of_batch` gives for each, one in memory at a time."""
    shapes = jax.eval_shape(of_batch, _first(batches))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total: Any, batch: tuple) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_batch(batch)), None

    return jax.lax.scan(add, zeros, tuple(batches))[0]


@dataclasses.dataclass(frozen=True)
class _WeightedSum:
    """Per-example values times weights, summed; a weight of zero silences even a NaN."""

    loss: Callable[..., jax.Array]

    def __call__(self, params: Any, weights: jax.Array, *examples: Any) -> jax.Array:
        values = self.loss(params, *examples)
        if jnp.shape(values) != weights.shape:
            got = f"a result of shape {jnp.shape(values)} for {len(weights)} examples"
            raise checks.reject("loss", got, "one value per example, [B]", "Don't average in it.")
        return jnp.where(weights > 0, weights.astype(values.dtype) * values, 0).sum()


@dataclasses.dataclass(frozen=True)
class _FromInputs:
    outputs: Callable[..., Any]

    def __call__(self, params: Any, _: jax.Array, *examples: Any) -> Any:
        return self.outputs(params, *examples[:-1])


@dataclasses.dataclass(frozen=True)
class _AgainstLabels:
    loss: Callable[..., jax.Array]

    def __call__(self, outputs: Any, *examples: Any) -> jax.Array:
        return self.loss(outputs, examples[-1])
