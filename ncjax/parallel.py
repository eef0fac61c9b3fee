"""One per-item function, many items, any number of devices: the only file that knows of devices.

Two maps, each by `vmap`, `pmap` or `shard_map` as one argument says:

* `across_devices` runs a function once per device; inside it collectives over `AXIS` join the
  devices (`lax.psum(x, AXIS)`). Training steps and moments use it.
* `sweep` runs a function once per item of a batch, many items a device, chunk by chunk, with a
  random key per item. Landscapes use it.

JAX maintains `pmap` as a wrapper over `shard_map` and recommends the latter for new code; both are
tested to give the same numbers. `vmap` runs the same program on a single device, with as many
virtual shards as asked for, and is the simplest to debug.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ncjax import checks

AXIS = "devices"
"""The name of the mapped axis, for collectives in functions given to `across_devices`."""

Backend = Literal["vmap", "pmap", "shard_map"]
BACKENDS: tuple[str, ...] = ("vmap", "pmap", "shard_map")


def across_devices(
    fn: Callable[..., Any],
    *,
    in_axes: tuple[int | None, ...],
    out_axes: tuple[int | None, ...] | int | None = 0,
    backend: Backend = "shard_map",
    devices: Sequence[jax.Device] | None = None,
) -> Callable[..., Any]:
    """Compiles `fn` to run once per device, on its slice of each sharded argument.

    Args:
        fn: the work of one device; positional arguments, collectives over `AXIS` allowed.
        in_axes: per argument, 0 if its leading axis counts devices (fn sees it without that axis),
            None if every device gets the whole of it.
        out_axes: the same for the outputs; None promises that all devices return the same (as
            after a `psum`).
        backend: "shard_map", "pmap", or "vmap" (all shards on the default device).
        devices: to run on; this process's devices if None, those of all processes if
            `jax.devices()`. The leading axis of sharded arguments and results counts the ones of
            this process; with "vmap" it may have any length.

    Returns:
        A compiled function of the same arguments; equal calls to `across_devices` share it.

    Raises:
        InputError: unknown backend; from the compiled function, a sharded argument whose leading
            axis is not the number of devices.
    """
    checks.check_choice("backend", backend, BACKENDS)
    devices = tuple(jax.local_devices() if devices is None else devices)
    run = _compiled(fn, in_axes, out_axes, backend, devices)
    return run if backend == "vmap" else _on_checked(run, in_axes, devices)


def _on_checked(
    run: Callable[..., Any], in_axes: tuple[int | None, ...], devices: tuple[jax.Device, ...]
) -> Callable[..., Any]:
    """`run`, once every sharded argument is found to have one slice a device.

    Others are put on the devices: where a loop passes a result on, the first call, with what comes
    from elsewhere, would be another program to compile.
    """
    shards = sum(device.process_index == jax.process_index() for device in devices)

    def checked(*args: Any) -> Any:
        for place, (axis, arg) in enumerate(zip(in_axes, args, strict=True)):
            sizes = set() if axis is None else {np.shape(x)[:1] for x in jax.tree.leaves(arg)}
            if not sizes <= {(shards,)}:
                accepted = f"one slice for each of {shards} device(s)"
                raise checks.reject(f"argument {place}", f"leading axes {sorted(sizes)}", accepted)
        if checks.is_concrete(args):
            places = zip(in_axes, args, strict=True)
            args = [replicated(arg, devices) if axis is None else arg for axis, arg in places]
        return run(*args)

    return checked


@functools.lru_cache(maxsize=256)
def _compiled(
    fn: Callable[..., Any],
    in_axes: tuple[int | None, ...],
    out_axes: tuple[int | None, ...] | int | None,
    backend: Backend,
    devices: tuple[jax.Device, ...],
) -> Callable[..., Any]:
    if backend == "vmap":
        return jax.jit(jax.vmap(fn, in_axes=in_axes, out_axes=out_axes, axis_name=AXIS))
    if backend == "pmap":
        return jax.pmap(fn, AXIS, in_axes=in_axes, out_axes=out_axes, devices=devices)
    mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    on_shard = _with_unit_axis(fn, in_axes, out_axes)
    in_specs, out_specs = _specs(in_axes), _specs(out_axes)
    # Unchecked, shard_map differentiates and reduces as pmap does, so that one fn serves both.
    specs = {"in_specs": in_specs, "out_specs": out_specs}
    run = jax.jit(jax.shard_map(on_shard, mesh=mesh, **specs, check_vma=False))
    if mesh.is_multi_process:
        return _on_local_slices(run, mesh, in_specs, out_specs)
    return run


def _on_local_slices(
    run: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """`run` over several processes, each passing and getting its own slices, as under pmap."""

    def local(*args: Any) -> Any:
        whole = multihost_utils.host_local_array_to_global_array(args, mesh, in_specs)
        return multihost_utils.global_array_to_host_local_array(run(*whole), mesh, out_specs)

    return local


def _specs(axes: tuple[int | None, ...] | int | None) -> Any:
    if isinstance(axes, tuple):
        return tuple(_specs(axis) for axis in axes)
    return PartitionSpec() if axes is None else PartitionSpec(AXIS)


def _with_unit_axis(
    fn: Callable[..., Any],
    in_axes: tuple[int | None, ...],
    out_axes: tuple[int | None, ...] | int | None,
) -> Callable[..., Any]:
    """`fn` for shards that keep a device axis of length one, as `shard_map` passes them."""

    def drop(axis: int | None, tree: Any) -> Any:
        return tree if axis is None else jax.tree.map(lambda x: x[0], tree)

    def add(axis: int | None, tree: Any) -> Any:
        return tree if axis is None else jax.tree.map(lambda x: jnp.asarray(x)[None], tree)

    def on_shard(*args: Any) -> Any:
        outputs = fn(*map(drop, in_axes, args))
        if isinstance(out_axes, tuple):
            return tuple(map(add, out_axes, outputs))
        return add(out_axes, outputs)

    return on_shard


def replicated(arrays: Any, devices: Sequence[jax.Device]) -> Any:
    """Arrays that every call of a compiled function needs whole, put on its devices once.

    Args:
        arrays: a pytree.
        devices: that the function runs on; if they are of several processes, the arrays stay on
            this one's default device, and each call hands them out.
    """
    if any(device.process_index != jax.process_index() for device in devices):
        return jax.device_put(arrays)
    mesh = Mesh(np.array(devices), (AXIS,))
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))


def shard_batches(
    arrays: tuple[Any, ...], shards: int, batch_size: int | None = 1024
) -> tuple[Any, ...]:
    """Cuts arrays into equal batches for each device, with a mask for the padding.

    Args:
        arrays: each `[N, ...]`.
        shards: devices.
        batch_size: most rows that one device sees at once; all of its share if None.

    Returns:
        Each array as `[shards, batches, rows, ...]`, and a boolean mask `[shards, batches, rows]`.

    Raises:
        InputError: no row, arrays of different lengths, or a batch size below 1.
    """
    size = _batch_size(arrays, "data")
    per_shard = -(-size // shards)
    batch_size = per_shard if batch_size is None else batch_size
    checks.check_count("batch_size", batch_size, 1)
    batches = -(-per_shard // batch_size)
    shape = (shards, batches, -(-per_shard // batches))
    rows = np.arange(np.prod(shape)).reshape(shape)
    taken = np.minimum(rows, size - 1)
    return (*jax.tree.map(lambda leaf: leaf[taken], arrays), rows < size)


def sweep(
    fn: Callable[..., Any],
    items: Any,
    *,
    key: jax.Array | None = None,
    ids: np.ndarray | None = None,
    chunk: int | None = None,
    together: int | None = None,
    backend: Backend = "shard_map",
    devices: Sequence[jax.Device] | None = None,
) -> Any:
    """Maps a function of one item over a batch of items.

    Args:
        fn: `fn(item)`, or `fn(key, item)` if `key` is given; a pytree of arrays in, another out.
            Use one function object for many sweeps: it is compiled once per object and shape.
        items: a pytree whose leaves share their leading axis `[B, ...]`.
        key: a typed random key; the item numbered i gets `fold_in(key, i)`, so its randomness
            depends neither on the chunks nor on the devices.
        ids: the items' numbers, int `[B]`; 0 .. B-1 if None. Give them when these items are part
            of a longer list.
        chunk: items in one compiled call, all devices together; a short batch is padded to it. All
            items at once if None.
        together: items that a device maps over at once by `vmap`, in a loop over its share of the
            chunk; all of them if None. For functions with loops see `together_for_loops`.
        backend: as in `across_devices`; "vmap" uses the default device alone.
        devices: as in `across_devices`.

    Returns:
        The results as NumPy arrays, each leaf `[B, ...]`, in the order of the items.

    Raises:
        InputError: no item, leading axes that differ, a chunk below 1, unknown backend.

    Examples:
        >>> import jax.numpy as jnp
        >>> sweep(lambda x: x**2, jnp.arange(5), chunk=2)
        array([ 0,  1,  4,  9, 16], dtype=int32)
    """
    size = _batch_size(items)
    ids = np.arange(size) if ids is None else np.asarray(ids)
    checks.check_shape("ids", ids, (size,), "[B]")
    checks.check_range("ids", ids, 0, 2**31)
    chunk = size if chunk is None else chunk
    checks.check_count("chunk", chunk, 1)
    if together is not None:
        checks.check_count("together", together, 1)
    devices = tuple(jax.local_devices() if devices is None else devices)
    shards = 1 if backend == "vmap" else len(devices)
    unit = shards * (together or 1)  # a remainder would be compiled on its own
    per_call = -(-chunk // unit) * unit
    work = _per_device(fn, key is not None, together)
    run = across_devices(work, in_axes=(None, 0, 0), backend=backend, devices=devices)
    parts = []
    with _one_blas_thread():
        for start in range(0, size, per_call):
            # A short chunk repeats its last item, so that every call has the one compiled shape.
            rows = np.minimum(np.arange(start, start + per_call), size - 1).reshape(shards, -1)
            taken = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], items)
            parts.append(jax.device_get(run(key, ids[rows].astype(np.int32), taken)))
    return jax.tree.map(lambda *leaves: _joined(leaves)[:size], *parts)


def on_one_blas_thread(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function with BLAS, which factorises XLA's matrices on CPUs, held to one thread.

    It waits for the result. Many small matrices on several BLAS threads took sixty times as long
    where other work was on the cores.

    Args:
        fn: any function.
    """

    @functools.wraps(fn)
    def held(*args: Any, **kwargs: Any) -> Any:
        with _one_blas_thread():
            return jax.block_until_ready(fn(*args, **kwargs))

    return held


def _one_blas_thread() -> threadpoolctl.threadpool_limits:
    """XLA runs matrices on threads of its own: BLAS threads beside them only collide."""
    return threadpoolctl.threadpool_limits(1, "blas")


def together_for_loops(devices: Sequence[jax.Device] | None = None) -> int | None:
    """What `sweep` should take `together` where `fn` loops until its item is done.

    A loop over a batch runs until its last item is done. An accelerator gains more from a large
    batch than that costs; a CPU gains nothing.

    Args:
        devices: to run on; this process's devices if None.

    Returns:
        1 on a CPU, else None: all items.
    """
    return 1 if (devices or jax.local_devices())[0].platform == "cpu" else None


def use_all_cores() -> None:
    """Makes every core a device of JAX's CPU backend, for sweeps to spread over.

    One CPU device runs small matrices on one core. To be called before JAX does anything; if JAX
    has started, or was told a number of CPU devices, nothing changes. Accelerators are not touched.
    """
    told = jax.config.jax_num_cpu_devices != -1
    if told or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _joined(leaves: tuple[np.ndarray, ...]) -> np.ndarray:
    """Chunks `[shards, items a shard, ...]` as one array `[items, ...]`."""
    return np.concatenate([np.reshape(leaf, (-1, *leaf.shape[2:])) for leaf in leaves])


@functools.lru_cache(maxsize=256)
def _per_device(fn: Callable[..., Any], keyed: bool, together: int | None) -> Callable[..., Any]:
    def one(key: jax.Array | None, item_id: jax.Array, item: Any) -> Any:
        return fn(jax.random.fold_in(key, item_id), item) if keyed else fn(item)

    if together is None:
        return jax.vmap(one, in_axes=(None, 0, 0))

    def in_turn(key: jax.Array | None, ids: jax.Array, items: Any) -> Any:
        return jax.lax.map(lambda pair: one(key, *pair), (ids, items), batch_size=together)

    return in_turn


def _batch_size(items: Any, argument: str = "items") -> int:
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(items)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise checks.reject(
            argument,
            f"leading axes {sorted(sizes)}",
            "a pytree of arrays with one common, non-empty leading axis",
        )
    return sizes.pop()[0]
