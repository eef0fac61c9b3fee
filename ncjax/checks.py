"""Refusing bad input at the boundary, before any compilation, in words that say how to go on.

Shapes are known while JAX traces, values are not: checks of values look at concrete arrays only and
let tracers pass, so every public function keeps working under `jit`, `vmap` and `grad`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

_GIB = 2**30


class InputError(ValueError):
    """An unfit argument: the message names it, what came, what is accepted, and a remedy."""


def reject(argument: str, got: object, accepted: str, remedy: str = "") -> InputError:
    """Builds the error for a bad argument, in one form for the whole library.

    Args:
        argument: the argument's name as the caller wrote it.
        got: what came (a value, a shape, a type).
        accepted: what would have been taken.
        remedy: what to do now, a sentence; may be empty where `accepted` says it.

    Returns:
        The exception, to be raised by the caller.
    """
    return InputError(f"`{argument}`: got {got}, but it must be {accepted}. {remedy}".strip())


def is_concrete(value: object) -> bool:
    """Whether the numbers of `value` can be looked at now (False while JAX traces them)."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def check_choice(argument: str, got: str, accepted: Iterable[str]) -> None:
    """Refuses a name that is not among `accepted`, with the nearest one as a suggestion."""
    names = sorted(accepted)
    if got in names:
        return
    near = difflib.get_close_matches(str(got), names, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else ""
    raise reject(argument, repr(got), f"one of {', '.join(map(repr, names))}", remedy)


def check_range(
    argument: str, value: object, low: float, high: float = np.inf, *, closed: bool = True
) -> None:
    """Refuses numbers outside [low, high), or outside (low, high) if not closed."""
    if not is_concrete(value):
        return
    numbers = np.asarray(value)
    if numbers.dtype == bool or not jnp.issubdtype(numbers.dtype, jnp.number):
        raise reject(argument, repr(value), "a number")
    above = numbers >= low if closed else numbers > low
    if not np.all(above & (numbers < high)):
        bound = f"{'at least' if closed else 'greater than'} {low:g}"
        limit = f" and less than {high:g}" if np.isfinite(high) else " and finite"
        raise reject(argument, value, bound + limit)


def check_count(argument: str, value: object, low: int) -> None:
    """Refuses anything but a Python integer of at least `low` (sizes are static under `jit`)."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise reject(argument, repr(value), f"an integer of at least {low}")


def check_labels(argument: str, labels: object, num_classes: int) -> None:
    """Refuses labels that are not integers in 0 .. num_classes - 1."""
    dtype = labels.dtype if hasattr(labels, "dtype") else np.asarray(labels).dtype
    if not np.issubdtype(dtype, np.integer):
        raise reject(
            argument, f"dtype {dtype}", "integer class indices", "Convert with `.astype(int)`."
        )
    if not is_concrete(labels) or np.size(labels) == 0:
        return
    numbers = np.asarray(labels)  # first: NumPy's functions of a JAX array are traced under `jit`
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= num_classes:
        raise reject(
            argument,
            f"values from {low} to {high}",
            f"class indices from 0 to {num_classes - 1}",
            "Renumber the classes from 0, or pass the right number of classes.",
        )


def check_finite(argument: str, array: object) -> None:
    """Refuses NaN and infinity, with the place of the first one."""
    if not is_concrete(array):
        return
    numbers = np.asarray(array)
    if not jnp.issubdtype(numbers.dtype, jnp.number):
        raise reject(argument, f"dtype {numbers.dtype}", "numeric")
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        raise reject(
            argument,
            f"{len(bad)} entries that are NaN or infinite (the first at {tuple(map(int, bad[0]))})",
            "finite",
            "Look for divergence or a missing value where these numbers were made.",
        )


def check_shape(argument: str, array: object, shape: tuple[int | None, ...], meaning: str) -> None:
    """Refuses an array whose shape is not `shape`; None stands for any size.

    Args:
        argument: the argument's name.
        array: the array.
        shape: the accepted shape.
        meaning: the axes in words, as `"[N, d]"`.
    """
    came = np.shape(array)
    fits = len(came) == len(shape) and all(w in (None, c) for c, w in zip(came, shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise reject(argument, f"shape {came}", f"of shape {meaning} = ({wanted})")


def check_all_classes_present(argument: str, counts: object) -> None:
    """Refuses class counts with a zero: a class without samples has no mean."""
    if not is_concrete(counts):
        return
    missing = np.flatnonzero(np.asarray(counts) == 0)
    if len(missing):
        named = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise reject(
            argument,
            f"no sample of class {named}",
            "such that every class has at least one sample",
            "Add samples of that class, or renumber the classes that are there.",
        )


def check_like(argument: str, got: object, model: str, accepted: object) -> None:
    """Refuses a pytree that differs from another in structure or in the shapes of its leaves.

    Args:
        argument: the argument's name.
        got: what came.
        model: the name of the argument it must be like.
        accepted: that other argument.
    """
    came, wanted = (jax.tree.structure(tree) for tree in (got, accepted))
    if came == wanted:
        came, wanted = ([jnp.shape(x) for x in jax.tree.leaves(t)] for t in (got, accepted))
    if came != wanted:
        raise reject(argument, came, f"a pytree like {model}, {wanted}")


def check_memory(argument: str, what: str, needed: int, remedy: str) -> None:
    """Refuses work that takes more than the memory of the default device.

    Args:
        argument: the argument to change.
        what: that is to be held, in words.
        needed: bytes.
        remedy: what to use instead, after "Use".
    """
    available = _device_memory()
    if needed > available:
        got = f"{what}, which takes about {needed / _GIB:.1f} GiB"
        accepted = f"within this device's {available / _GIB:.1f} GiB"
        raise reject(argument, got, accepted, f"Use {remedy}.")


def _device_memory() -> int:
    """Bytes of the default device: what it says of itself, or the machine's memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
