"""Sections of `bench_landscape`: operations of a point, the machine's rate, and how cost grows.

The operations are those that ncjax does; a floor is what they would take at the rate of a large
matrix product. With R rows of H in d columns, w = d + 1 and S = K w, a Newton step needs

* 6 R K d for logits and gradients;
* R (6 K^2 d + 6 K d^2 + 10/3 d^3) for blocks, their inverses and what they are multiplied with;
* 6 R K^2 w^2 for the sums of Kronecker products;
* S^3 / 3 + 2 S^2 for the Schur complement's factorisation and solution;

and a count at a shift R (4 K^2 d + 2 K d^2 + 2 d^3) + 6 R K^2 w^2 + 4/3 S^3, after 9 R d^3 once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.curvature_networks import Row, shortest
from experiments.benchmarks.landscape_points import (
    SIZE,
    STARTS,
    Size,
    certified,
    grid,
    model,
    solved,
    timed_sweep,
)
from ncjax import ufm
from ncjax.ufm import arrow as arrows
from ncjax.ufm.grid import Shape

SHIFTS = 3
"""At which a point's eigenvalues are counted."""


def schur_operations(K: int, d: int, rows: int) -> float:
    """Of the sums of Kronecker products that make S(t)."""
    return 6 * rows * K**2 * (d + 1) ** 2


def step_operations(K: int, d: int, rows: int) -> float:
    """Of one Newton step."""
    size = K * (d + 1)
    samples = 6 * K * d + 6 * K**2 * d + 6 * K * d**2 + 10 / 3 * d**3
    return rows * samples + schur_operations(K, d, rows) + size**3 / 3 + 2 * size**2


def count_operations(K: int, d: int, rows: int) -> float:
    """Of the counts at all shifts."""
    samples = 4 * K**2 * d + 2 * K * d**2 + 2 * d**3
    size = K * (d + 1)
    each = rows * samples + schur_operations(K, d, rows) + 4 / 3 * size**3
    return SHIFTS * each + 9 * rows * d**3


def point_operations(size: Size, steps: float, compact: bool) -> float:
    """Of a certified point after so many steps; the certificate itself is nothing beside them."""
    K, d, n = size
    d, rows = (min(d, K), K) if compact else (d, K * n)
    return steps * step_operations(K, d, rows) + count_operations(K, d, rows)


def rate_of_products(size: int = 1500) -> float:
    """Operations a second of a float64 matrix product, on all cores of the default device."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(jnp.matmul)
    return 2 * size**3 / shortest({"": lambda: multiply(matrix, matrix)}, rounds=9)[""]


def floor_section() -> list[Row]:
    """The parts of a step on one core, and steps and points on all, beside their floors."""
    rate = rate_of_products()
    rows: list[Row] = [{"what": "matrix product, all cores", "GFLOP/s": rate / 1e9}]
    for loss in ("cross_entropy", "focal"):
        shape, items = grid(loss, SIZE, STARTS[loss]).programs()[0]
        K, d, n = SIZE
        d, lines = (min(d, K), K) if shape.compact else (d, K * n)
        count = len(items["start"])
        settings = {"key": jax.random.key(0), "together": 1}
        found, _, solution = timed_sweep(solved(shape), items, **settings)
        steps = int(found.steps.sum())
        _, _, whole = timed_sweep(certified(shape), items, **settings)
        of_schur = schur_operations(K, d, lines) + lines * (4 * K**2 * d + 2 * K * d**2)
        operations = {
            "S(t) from inverses, one core": of_schur,
            "Cholesky of S(t), one core": (K * (d + 1)) ** 3 / 3,
            "a step, all cores": step_operations(K, d, lines),
            "a point, all cores": point_operations(SIZE, steps / count, shape.compact),
        }
        times = parts_of_a_step(loss, shape, count)
        times |= {"a step, all cores": solution / steps, "a point, all cores": whole / count}
        for what, seconds in times.items():
            row = {"loss": loss, "what": what, "us": 1e6 * seconds}
            if what in operations:
                speed = operations[what] / seconds
                row |= {"MFLOP": operations[what] / 1e6, "GFLOP/s": speed / 1e9}
                cores = jax.local_device_count() if "one core" in what else 1
                row["time / floor"] = rate / cores / speed
            rows.append(row)
    return rows


def parts_of_a_step(loss: str, shape: Shape, count: int) -> dict[str, float]:
    """Seconds of the parts, at so many random points, one by one."""
    problem = model(loss)
    shift = jnp.asarray(-1e3 * problem.mu)
    keys = jax.random.split(jax.random.key(0), count)

    def inverted(piece: arrows.Arrow) -> jax.Array:
        return jnp.linalg.inv(arrows.shifted_blocks(piece, shift))

    def eliminated(both: tuple[arrows.Arrow, jax.Array]) -> jax.Array:
        return arrows.eliminated(both[0], shift, both[1]).schur

    def value_and_gradient(point: ufm.Params) -> tuple[jax.Array, ufm.Params]:
        return ufm.objective(point, problem), ufm.gradient(point, problem)

    points = jax.vmap(lambda key: ufm.init(key, problem, compact=shape.compact))(keys)
    pieces = jax.lax.map(lambda point: arrows.arrow(point, problem), points)
    inverses = jax.lax.map(inverted, pieces)
    calls = {
        "f and gradient": (value_and_gradient, points),
        "pieces of H": (lambda point: arrows.arrow(point, problem), points),
        "inverses": (inverted, pieces),
        "S(t) from inverses": (eliminated, (pieces, inverses)),
        "Cholesky of S(t)": (jnp.linalg.cholesky, jax.lax.map(eliminated, (pieces, inverses))),
    }
    mapped = {
        name: (jax.jit(lambda xs, f=f: jax.lax.map(f, xs)), xs) for name, (f, xs) in calls.items()
    }
    seconds = shortest({name: lambda f=f, xs=xs: f(xs) for name, (f, xs) in mapped.items()}, 5)
    return {f"{name}, one core": total / count for name, total in seconds.items()}


def growth_section() -> list[Row]:
    """Time of a point beside its operations, as K, d and n grow."""
    rate = rate_of_products()
    compact = [Size(K, 2 * K, 30) for K in (4, 10, 20, 40)]
    compact += [Size(10, d, 30) for d in (10, 40)] + [Size(10, 20, n) for n in (3, 300)]
    rows = [growth("cross_entropy", size, rate) for size in compact]
    return rows + [growth("focal", Size(10, 20, n), rate) for n in (3, 10, 30, 100)]


def growth(loss: str, size: Size, rate: float) -> Row:
    """One line, at points of mixed ranks: 40 where they take milliseconds, few where seconds."""
    shape, items = grid(loss, size, 40 // size.num_classes + 1).programs()[0]
    expected = point_operations(size, 50, shape.compact)
    count, rounds = (40, 4) if expected < 1e9 else (8, 2) if expected < 5e10 else (4, 1)
    chosen = np.random.default_rng(0).permutation(len(items["start"]))[:count]
    items = {name: values[chosen] for name, values in items.items()}
    call = {"key": jax.random.key(0), "together": 1, "rounds": rounds}
    found, first, seconds = timed_sweep(certified(shape), items, **call)
    K, d, n = size
    steps = float(found["steps"].mean())
    needed = point_operations(size, steps, shape.compact)
    return {
        "loss": loss,
        "K": K,
        "d": d,
        "n": n,
        "size of S(t)": K * (1 + (min(d, K) if shape.compact else d)),
        "points": count,
        "steps": steps,
        "compilation, s": first - seconds,
        "a point, ms": 1e3 * seconds / count,
        "MFLOP": needed / 1e6,
        "time / floor": seconds / count * rate / needed,
    }
