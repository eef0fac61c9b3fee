"""Sections of `bench_landscape`: certified critical points by ncjax, whole and by part."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.curvature_networks import Row, elapsed, shortest
from ncjax import parallel, ufm
from ncjax.ufm.grid import Shape, problem_of
from ncjax.ufm.inertia import counts_below

DECAYS = {"lambda_w": 5e-4, "lambda_h": 5e-4, "lambda_b": 1e-2}
Items = dict[str, Any]


class Size(NamedTuple):
    """K, d and n."""

    num_classes: int
    feature_dim: int
    samples_per_class: int


SIZE = Size(10, 20, 30)
"""Of every comparison: 6,210 variables."""


def model(loss: str, size: Size = SIZE) -> ufm.Problem:
    """The problem of the comparisons."""
    return ufm.Problem(*size, loss, **DECAYS)


def grid(loss: str, size: Size, starts: int) -> ufm.Grid:
    """All ranks 0 .. K-1, from several starts each."""
    sizes = {name: (value,) for name, value in size._asdict().items()}
    decays = {name: (value,) for name, value in DECAYS.items()}
    return ufm.Grid((loss,), **sizes, **decays, starts=starts)


def points_section() -> list[Row]:
    """Milliseconds a certified point: the ways to map over points, and each loss's best."""
    rows = [
        way(loss, backend, together)
        for loss, backend, together in (
            ("cross_entropy", "shard_map", 1),
            ("cross_entropy", "shard_map", 8),
            ("cross_entropy", "vmap", 1),
            ("cross_entropy", "vmap", 8),
            ("mse", "shard_map", 1),
            ("focal", "shard_map", 1),
        )
    ]
    return [*rows, whole_sweep("cross_entropy"), whole_sweep("focal")]


STARTS = {"cross_entropy": 32, "mse": 32, "focal": 2}
"""Of each rank; the focal loss has a feature for every sample, and takes its time."""


@functools.cache
def way(loss: str, backend: parallel.Backend, together: int) -> Row:
    """Points of one loss, mapped in one way."""
    shape, items = grid(loss, SIZE, STARTS[loss]).programs()[0]
    settings = {"key": jax.random.key(0), "backend": backend, "together": together}
    found, first, seconds = timed_sweep(certified(shape), items, **settings)
    points = len(items["start"])
    devices = 1 if backend == "vmap" else jax.local_device_count()
    return {
        "loss": loss,
        "rows of H": SIZE.num_classes if shape.compact else model(loss).num_samples,
        "way": f"{backend}, {devices} CPU device(s), {together} at once",
        "points": points,
        "compilation, s": first - seconds,
        "a point, ms": 1e3 * seconds / points,
        "steps": float(found["steps"].mean()),
        "most": int(found["steps"].max()),
        "converged": float(found["converged"].mean()),
        "largest gradient": float(found["gradient_norm"].max()),
    }


def ours() -> float:
    """Seconds a certified point, of cross entropy, on all cores."""
    return way("cross_entropy", "shard_map", 1)["a point, ms"] / 1e3


def whole_sweep(loss: str) -> Row:
    """`ufm.landscape` itself: the same points, theory's values and the table."""
    asked = grid(loss, SIZE, STARTS[loss])
    call = functools.partial(ufm.landscape, asked, show_progress=False)
    started = time.perf_counter()
    table = call()
    first = elapsed(started)
    seconds = shortest({"": call}, rounds=3, warm=False)[""]
    return {
        "loss": loss,
        "way": "`ufm.landscape`",
        "points": len(table),
        "compilation, s": first - seconds,
        "a point, ms": 1e3 * seconds / len(table),
        "steps": float(table["steps"].mean()),
        "most": int(table["steps"].max()),
        "converged": float(table["converged"].mean()),
        "largest gradient": float(table["gradient_norm"].max()),
    }


def parts_section() -> list[Row]:
    """What of a point's time goes to the solution, the certificate and the counts."""
    rows = []
    for loss, starts in STARTS.items():
        shape, items = grid(loss, SIZE, starts).programs()[0]
        points = len(items["start"])
        found, *solution = timed_sweep(solved(shape), items, key=jax.random.key(0), together=1)
        items = {**items, "params": found.params}
        escape, *certificate = timed_sweep(examined(shape), items, together=1)
        items["escape_value"] = escape["escape_value"]
        _, *counts = timed_sweep(counted(shape), items, together=1)
        times = {"solution": solution, "certificate": certificate, "counts": counts}
        whole = sum(seconds for _, seconds in times.values())
        for part, (first, seconds) in times.items():
            steps = int(found.steps.sum())
            row = {"loss": loss, "part": part, "a point, ms": 1e3 * seconds / points}
            row |= {"share": seconds / whole, "compilation, s": first - seconds}
            if part == "solution":
                row["a step, ms"] = 1e3 * seconds / steps
            rows.append(row)
    return rows


def timed_sweep(
    fn: Callable[..., Any], items: Any, rounds: int = 4, **settings: Any
) -> tuple[Any, float, float]:
    """What a sweep returns, the seconds of its first call and of its shortest."""
    call = functools.partial(parallel.sweep, fn, items, **settings)
    started = time.perf_counter()
    found = call()
    first = elapsed(started)
    return found, first, shortest({"": call}, rounds, warm=False)[""]


@functools.cache
def certified(shape: Shape) -> Callable[[jax.Array, Items], dict[str, jax.Array]]:
    """The work of one point in `ufm.landscape`: solve, certify, count."""

    def point(key: jax.Array, item: Items) -> dict[str, jax.Array]:
        found = solved(shape)(key, item)
        row = {"steps": found.steps, "converged": found.converged}
        item = {**item, "params": found.params}
        row |= examined(shape)(item)
        return row | {"counts": counted(shape)({**item, **row})}

    return point


@functools.cache
def solved(shape: Shape) -> Callable[[jax.Array, Items], ufm.Solution]:
    """From a random start, in the dimensions that the rank allows."""

    def solve(key: jax.Array, item: Items) -> ufm.Solution:
        problem = problem_of(shape, item)
        start = ufm.init(key, problem, compact=shape.compact)
        return ufm.solve(start, problem, columns=item["requested_rank"], max_steps=200)

    return solve


@functools.cache
def examined(shape: Shape) -> Callable[[Items], dict[str, jax.Array]]:
    """The certificate's numbers."""

    def examine(item: Items) -> dict[str, jax.Array]:
        numbers = dict(vars(ufm.certify(item["params"], problem_of(shape, item))))
        del numbers["escape_direction"]
        return {name: value for name, value in numbers.items() if value is not None}

    return examine


@functools.cache
def counted(shape: Shape) -> Callable[[Items], jax.Array]:
    """Eigenvalues below the three shifts of the sweep."""

    def count(item: Items) -> jax.Array:
        problem = problem_of(shape, item)
        width = 1e-6 * problem.mu
        shifts = jnp.stack([-width, width, item["escape_value"] - width])
        return counts_below(item["params"], problem, shifts)

    return count


def starts_of_peers(count: int, *, compact: bool = False) -> tuple[ufm.Params, np.ndarray]:
    """Random starts `[count, ...]` whose columns beyond a rank are zero, and the ranks 0 .. K-1."""
    ranks = np.arange(count) % SIZE.num_classes
    problem = model("cross_entropy")
    keys = jax.random.split(jax.random.key(0), count)
    start = jax.vmap(lambda key: ufm.init(key, problem, compact=compact))(keys)
    used = (np.arange(start.W.shape[-1])[None, :] < ranks[:, None])[:, None, :]
    return ufm.Params(start.W * used, start.H * used, start.b), ranks
