"""The landscape sweep: many problems, ranks and starts, solved and certified, one row a point.

Points of convex losses are solved and certified compact (`ncjax.ufm.problem`): their cost depends
neither on n nor, beyond K, on d. Other losses are solved with a feature for every sample.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa

from ncjax import checks, curvature, parallel, progress, runs
from ncjax.curvature import Verdict
from ncjax.ufm.certificate import certify
from ncjax.ufm.grid import Grid, Shape, problem_of
from ncjax.ufm.inertia import counts_below, signs_from
from ncjax.ufm.minimizer import minimizer
from ncjax.ufm.newton import solve
from ncjax.ufm.problem import (
    Params,
    Problem,
    expand,
    hessian_product,
    init,
    norm,
    objective,
)

_CURVATURE_TOL = 1e-6
_MAX_STEPS = 200


def landscape(
    grid: Grid,
    run: Path | str | None = None,
    *,
    chunk: int | None = None,
    memory: float = 0.25,
    search: Literal["float64", "float32"] = "float64",
    backend: parallel.Backend = "shard_map",
    devices: tuple[jax.Device, ...] | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Solves and certifies every point of a grid, one compiled program per loss and shape.

    In a `jax.distributed` job the processes take the chunks in turn; each writes its own parts and
    returns its own rows, and `read_landscape` joins the parts. They do not wait for each other.

    Args:
        grid: what to sweep.
        run: a folder for config and Parquet parts; a sweep killed at any moment goes on when
            called again with the same arguments. Nothing is written if None.
        chunk: points in one compiled call; if None as many as `memory` holds.
        memory: GiB for the working arrays of one call, about.
        search: "float32" lets an accelerator without float64 find the points; they are then
            polished and certified in float64 on the host's CPU.
        backend: "shard_map", "pmap" or "vmap" (`ncjax.parallel`).
        devices: to run on; all of this process's if None.
        show_progress: show a progress bar with points per second.

    Returns:
        One row per point: the problem (`loss`, `num_classes`, ..., hyperparameters), `aim`,
        `requested_rank`, `start`; `objective`, `gradient_norm`, `steps`, `converged`; the
        certificate (`lower_bound`, `gap`, `spectral_ratio`, `escape_value`, `escape_residual`,
        `rank`, `escape_dimension`, and the `verdict`, which the counts make `local_minimum` where
        they prove one and the certificate is inconclusive); the exact counts `negative`, `zero`,
        `positive` of Hessian eigenvalues beyond 1e-6 mu, and `below_escape`, how many lie below the
        escape value by more than that; `theory_value`, the objective of the symmetric minimiser;
        and where the Hessian is small enough its `smallest_eigenvalue` and `dense_negative`, from
        the dense matrix. What does not exist is missing (NaN).

    Raises:
        InputError: a setting out of range, no float64, or a run folder of another grid.
    """
    if chunk is not None:
        checks.check_count("chunk", chunk, 1)
    checks.check_range("memory", memory, 0.0, closed=False)
    checks.check_choice("search", search, ("float64", "float32"))
    if not jax.config.jax_enable_x64:
        raise checks.reject(
            "precision",
            "float32",
            "float64 for certified landscapes",
            "Call inside `with jax.enable_x64(True):` (the command line does).",
        )
    if run is not None:
        asked = {"chunk": chunk, "memory": memory, "search": search}
        run = runs.open_run(run, dataclasses.asdict(grid) | asked)
    blocks = list(_blocks(grid, chunk, memory))[jax.process_index() :: jax.process_count()]
    total = sum(len(block.ids) for block in blocks)
    tables = []
    with progress.bar(total=total, unit=" points", desc="landscape", show=show_progress) as bar:
        for block in blocks:
            work = functools.partial(_solve_block, grid, block, search, backend, devices)
            tables.append(_from_part(run, block, work))
            bar.update(len(block.ids))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read_landscape(run: Path | str) -> pd.DataFrame:
    """The table of a sweep from its parts, in the order of the grid.

    Args:
        run: the folder of a sweep, finished or not.

    Raises:
        InputError: the folder holds no sweep.
    """
    # Not the hidden drafts that a kill may have left.
    parts = sorted((Path(run) / "points").glob("[0-9]*.parquet"))
    if not parts:
        raise checks.reject("run", str(run), "the folder of a sweep", "See `ncjax landscape`.")
    return pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)


@dataclasses.dataclass(frozen=True)
class _Block:
    """The points of one part."""

    number: int
    shape: Shape
    items: dict[str, np.ndarray]
    ids: np.ndarray
    chunk: int

    @property
    def name(self) -> str:
        loss, K, d, *_ = self.shape
        return f"{self.number:05d}-{loss}-K{K}-d{d}-{self.ids[0]:08d}.parquet"


def _blocks(grid: Grid, chunk: int | None, memory: float) -> Iterator[_Block]:
    """Parts, the same whatever the devices and processes."""
    number = 0
    for shape, items in grid.programs():
        size = len(items["start"])
        step = min(chunk or _chunk_for(shape, memory), size)
        for start in range(0, size, step):
            ids = np.arange(start, min(start + step, size))
            rows = {name: values[ids] for name, values in items.items()}
            yield _Block(number, shape, rows, ids, step)
            number += 1


def _chunk_for(shape: Shape, memory: float) -> int:
    """Points whose Schur complements and blocks fit, by the sizes of their largest arrays."""
    K, width = shape.num_classes, min(shape.num_classes, shape.feature_dim)
    sizes = shape.samples_per_class
    rows = K if shape.compact else (sum(sizes) if isinstance(sizes, tuple) else K * sizes)
    numbers = 8 * (K * (width + 1)) ** 2 + 6 * rows * (K + width + 1) ** 2
    return int(np.clip(memory * 2**30 / 8 / numbers, 1, 1024))


def _from_part(run: Path | None, block: _Block, work: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of one block: read if it was written before, else solved and written."""
    if run is None:
        return work()
    part = run / "points" / block.name
    try:
        return pd.read_parquet(part)
    except (FileNotFoundError, pa.ArrowException):  # not there yet, or damaged
        table = work()
        runs.write_atomically(part, lambda path: table.to_parquet(path, index=False))
        return table


def _solve_block(
    grid: Grid,
    block: _Block,
    search: str,
    backend: parallel.Backend,
    devices: tuple[jax.Device, ...] | None,
) -> pd.DataFrame:
    shape, items = block.shape, dict(block.items)
    sweep = functools.partial(
        parallel.sweep,
        key=jax.random.key(grid.seed),
        ids=block.ids,
        chunk=block.chunk,
        backend=backend,
    )
    if search == "float32":
        with jax.enable_x64(False):
            finder = _finder(shape, grid.start_scale)
            together = parallel.together_for_loops(devices)
            found = sweep(finder, items, together=together, devices=devices)
        items["found"] = jax.tree.map(lambda leaf: leaf.astype(float), found)
        devices = tuple(jax.local_devices(backend="cpu"))
    point = _point(shape, grid.start_scale, grid.dense_limit)
    with jax.default_device(devices[0] if devices else None):  # where "vmap" runs
        together = parallel.together_for_loops(devices)
        results = sweep(point, items, together=together, devices=devices)
        results["theory_value"] = _theory_values(shape, block.items)
    results["verdict"] = [Verdict(int(code)).label for code in results["verdict"]]
    problem = {
        "loss": shape.loss,
        "num_classes": shape.num_classes,
        "feature_dim": shape.feature_dim,
        "aim": shape.aim,
    }
    return pd.DataFrame(block.items | results).assign(**problem)


def _theory_values(shape: Shape, items: dict[str, np.ndarray]) -> np.ndarray:
    """f* of each item's problem where it has a symmetric minimiser, else NaN; each solved once."""
    size = len(items["start"])
    if not shape.balanced or shape.feature_dim < shape.num_classes - 1:
        return np.full(size, np.nan)
    names = [name for name in items if name not in ("requested_rank", "start", "minority_samples")]
    columns = np.stack([items[name] for name in names], axis=1)
    distinct, place = np.unique(columns, axis=0, return_inverse=True)
    padded = distinct[np.minimum(np.arange(-(-len(distinct) // 16) * 16), len(distinct) - 1)]
    # One program serves all sample numbers and all d >= K.
    width = min(shape.feature_dim, shape.num_classes)
    traced = shape._replace(
        feature_dim=width, samples_per_class=None, compact=True, aim="minimizer"
    )
    values = parallel.sweep(
        _theory(traced),
        dict(zip(names, padded.T, strict=True)),
        chunk=16,
        backend="vmap",
    )
    return values[place.reshape(-1)]


@functools.lru_cache(maxsize=64)
def _theory(shape: Shape) -> Callable[[dict[str, Any]], jax.Array]:
    def value(item: dict[str, Any]) -> jax.Array:
        item = item | {"minority_samples": item["samples_per_class"]}
        best = minimizer(problem_of(shape, item), compact=True)
        return jnp.where(best.converged, best.value, math.nan)

    return value


@functools.lru_cache(maxsize=64)
def _finder(shape: Shape, start_scale: float) -> Callable[[jax.Array, dict[str, Any]], Params]:
    """A critical point of one item, in the precision at hand."""

    def find(key: jax.Array, item: dict[str, jax.Array]) -> Params:
        problem = problem_of(shape, item)
        start = init(key, problem, start_scale, compact=shape.compact)
        settings = {"aim": shape.aim, "columns": item["requested_rank"], "max_steps": _MAX_STEPS}
        return solve(start, problem, **settings, gradient_tol=1e-4).params

    return find


@functools.lru_cache(maxsize=64)
def _point(
    shape: Shape, start_scale: float, dense_limit: int
) -> Callable[[jax.Array, dict[str, Any]], dict[str, jax.Array]]:
    """The work of one item: solve, certify, count, compare with theory."""

    def point(key: jax.Array, item: dict[str, Any]) -> dict[str, jax.Array]:
        problem = problem_of(shape, item)
        start = item.get("found")
        if start is None:
            start = init(key, problem, start_scale, compact=shape.compact)
        found = solve(
            start, problem, aim=shape.aim, columns=item["requested_rank"], max_steps=_MAX_STEPS
        )
        row = {"steps": found.steps, "converged": found.converged}
        return row | _examined(found.params, problem) | _dense(found.params, problem, dense_limit)

    return point


def _examined(params: Params, problem: Problem) -> dict[str, jax.Array]:
    """Certificate and exact inertia."""
    certificate = certify(params, problem, curvature_tol=_CURVATURE_TOL)
    width = _CURVATURE_TOL * problem.mu
    shifts = jnp.stack([-width, width, certificate.escape_value - width])
    below, not_above, below_escape = counts_below(params, problem, shifts)
    counts = signs_from(below, not_above, problem, width)
    is_minimum = (certificate.verdict == Verdict.INCONCLUSIVE) & (counts.negative == 0)
    is_minimum &= counts.zero == _symmetries(params, certificate.rank, problem)
    verdict = jnp.where(is_minimum, jnp.int32(Verdict.LOCAL_MINIMUM), certificate.verdict)
    missing = jnp.asarray(math.nan)
    row = {
        name: missing if value is None else value
        for name, value in vars(certificate).items()
        if name != "escape_direction"
    }
    row |= {"negative": counts.negative, "zero": counts.zero, "positive": counts.positive}
    return row | {"below_escape": below_escape, "verdict": verdict}


def _symmetries(params: Params, rank: jax.Array, problem: Problem) -> jax.Array:
    """Dimension of the orbit: rotations of the features, and a shift of the bias if it is free."""
    rotations = rank * problem.feature_dim - rank * (rank + 1) // 2
    shift = jax.tree.map(jnp.zeros_like, params)
    shift = dataclasses.replace(shift, b=jnp.ones_like(params.b))
    curvature = norm(hessian_product(params, shift, problem), problem)
    return rotations + (curvature <= _CURVATURE_TOL * problem.mu).astype(rotations.dtype)


def _dense(params: Params, problem: Problem, limit: int) -> dict[str, jax.Array]:
    """Smallest eigenvalue and index from the dense matrix, where it is small enough."""
    sizes = problem.samples_per_class
    if isinstance(sizes, jax.Array):  # traced: the dense matrix needs its sizes
        return {}
    K, d = problem.num_classes, problem.feature_dim
    if K * (d + 1) + problem.num_samples * d > limit:
        return {}
    hessian = curvature.hessian(objective, problem)
    matrix = curvature.hessian_matrix(hessian, expand(params, problem))
    eigenvalues = jnp.linalg.eigvalsh(matrix)
    counts = curvature.signs(eigenvalues, _CURVATURE_TOL * problem.mu)
    return {"smallest_eigenvalue": eigenvalues[0], "dense_negative": counts.negative}
