"""The landscape sweep: many problems, ranks and starts, solved and certified, one row a point."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa

from ncjax import checks, curvature, losses, parallel, progress, runs
from ncjax.curvature import Verdict
from ncjax.ufm.certificate import certify
from ncjax.ufm.minimizer import minimizer
from ncjax.ufm.problem import Params, Problem, objective
from ncjax.ufm.solver import critical_point

_CURVATURE_TOL = 1e-6


@dataclasses.dataclass(frozen=True)
class Grid:
    """The product of everything listed is swept: each loss with its own hyperparameters only.

    Attributes:
        losses: names from `ncjax.losses`.
        num_classes: values of K.
        feature_dim: values of d.
        samples_per_class: values of n.
        lambda_w: weight decays of W.
        lambda_h: weight decays of H.
        lambda_b: weight decays of b.
        smoothing: of label smoothing.
        gamma: of the focal loss.
        scale: of the true class in MSE.
        target: of the true class in MSE.
        ranks: feature dimensions to solve in before padding; none means 0 .. K-1 (at most d).
        starts: random starts for each problem and rank.
        start_scale: typical norm of the rows of a start.
        seed: of the starts.
        dense_limit: problems of at most this many parameters get their whole Hessian spectrum too.
    """

    losses: tuple[str, ...] = tuple(losses.LOSSES)
    num_classes: tuple[int, ...] = (4,)
    feature_dim: tuple[int, ...] = (6,)
    samples_per_class: tuple[int, ...] = (3,)
    lambda_w: tuple[float, ...] = (5e-4, 5e-3)
    lambda_h: tuple[float, ...] = (5e-4, 5e-3)
    lambda_b: tuple[float, ...] = (1e-2,)
    smoothing: tuple[float, ...] = (0.1,)
    gamma: tuple[float, ...] = (3.0,)
    scale: tuple[float, ...] = (1.0,)
    target: tuple[float, ...] = (1.0,)
    ranks: tuple[int, ...] = ()
    starts: int = 4
    start_scale: float = 1.0
    seed: int = 0
    dense_limit: int = 500

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type.startswith("tuple"):
                object.__setattr__(self, field.name, _listed(field.name, getattr(self, field.name)))
        checks.check_count("seed", self.seed, 0)
        checks.check_count("starts", self.starts, 1)
        checks.check_range("start_scale", self.start_scale, 0.0, closed=False)
        for rank in self.ranks:
            checks.check_count("ranks", rank, 0)
            if rank > min(self.feature_dim):
                accepted = f"at most the smallest feature_dim, {min(self.feature_dim)}"
                raise checks.reject("ranks", rank, accepted)
        # Building a problem of each kind checks the rest, before anything is compiled.
        for loss, K, d, n in self.shapes():
            for item in self._products(loss):
                _problem(loss, K, d, n, item)

    def shapes(self) -> list[tuple[str, int, int, int]]:
        """The (loss, K, d, n) of each compiled program."""
        return list(
            itertools.product(
                self.losses, self.num_classes, self.feature_dim, self.samples_per_class
            )
        )

    def _products(self, loss: str) -> list[dict[str, float]]:
        names = ("lambda_w", "lambda_h", "lambda_b", *_hyperparameters(loss))
        values = itertools.product(*(getattr(self, name) for name in names))
        return [dict(zip(names, value, strict=True)) for value in values]

    def items(self, loss: str, num_classes: int, feature_dim: int) -> dict[str, np.ndarray]:
        """The varying quantities of one program's points, each `[B]`."""
        ranks = self.ranks or range(min(num_classes, feature_dim + 1))
        rows = [
            {**product, "requested_rank": rank, "start": start}
            for product in self._products(loss)
            for rank in ranks
            for start in range(self.starts)
        ]
        whole = ("requested_rank", "start")
        return {
            name: np.array([row[name] for row in rows], int if name in whole else float)
            for name in rows[0]
        }


def landscape(
    grid: Grid,
    run: Path | str | None = None,
    *,
    chunk: int = 256,
    backend: parallel.Backend = "shard_map",
    devices: tuple[jax.Device, ...] | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Solves and certifies every point of a grid, one compiled program per loss and shape.

    Args:
        grid: what to sweep.
        run: a folder for config and Parquet parts; a sweep killed at any moment goes on when
            called again with the same grid and chunk. Nothing is written if None.
        chunk: points in one compiled call.
        backend: "shard_map", "pmap" or "vmap" (`ncjax.parallel`).
        devices: to run on; all of this process's if None.
        show_progress: show a progress bar with points per second.

    Returns:
        One row per point: the problem (`loss`, `num_classes`, ..., hyperparameters),
        `requested_rank`, `start`; `objective`, `gradient_norm`, `steps`, `converged`; the
        certificate (`lower_bound`, `gap`, `spectral_ratio`, `escape_value`, `escape_residual`,
        `rank`, `escape_dimension`, `verdict`); `theory_value`, the objective of the symmetric
        minimiser; and where the Hessian is small enough `smallest_eigenvalue`, `negative`,
        `zero`, `positive` (counts beyond 1e-6 mu). What does not exist is missing (NaN).

    Raises:
        InputError: a setting out of range, no float64, or a run folder of another grid.
    """
    checks.check_count("chunk", chunk, 1)
    if not jax.config.jax_enable_x64:
        raise checks.reject(
            "precision",
            "float32",
            "float64 for certified landscapes",
            "Call inside `with jax.enable_x64(True):` (the command line does).",
        )
    if run is not None:
        run = runs.open_run(run, dataclasses.asdict(grid) | {"chunk": chunk})
    blocks = _blocks(grid, chunk)
    total = sum(stop - start for _, _, start, stop in blocks)
    tables = []
    with progress.bar(total=total, unit=" points", desc="landscape", show=show_progress) as bar:
        for shape, items, start, stop in blocks:
            rows = {name: values[start:stop] for name, values in items.items()}
            ids, size = np.arange(start, stop), min(chunk, len(items["start"]))
            solve = functools.partial(
                _solve_block, grid, shape, rows, ids, chunk=size, backend=backend, devices=devices
            )
            tables.append(_from_part(run, shape, start, solve))
            bar.update(stop - start)
    return pd.concat(tables, ignore_index=True)


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """What a sweep found, one row a loss.

    Args:
        table: from `landscape`.

    Returns:
        Per loss: `points`, by verdict `saddles`, `minima`, `other`; over the minima the `worst gap`
        to the rigorous bound and the largest `f vs theory`, |f - theory|; over the saddles the
        largest relative `escape law error` of the certificate's eigenvalue against the dense
        Hessian's smallest, and `index exceptions`, saddles whose Morse index is not the one of the
        escape law.
    """
    rows = []
    for loss, points in table.groupby("loss", sort=False):
        minima = points[points["verdict"].isin(["global_minimizer", "symmetric_minimum"])]
        saddles = points[points["verdict"] == "strict_saddle"]
        row = {
            "loss": loss,
            "points": len(points),
            "saddles": len(saddles),
            "minima": len(minima),
            "other": len(points) - len(saddles) - len(minima),
            "worst gap": minima["gap"].max(),
            "f vs theory": (minima["objective"] - minima["theory_value"]).abs().max(),
        }
        if "smallest_eigenvalue" in points:
            escape, dense = saddles["escape_value"], saddles["smallest_eigenvalue"]
            row["escape law error"] = ((escape - dense) / dense).abs().max()
            known = saddles[saddles["negative"].notna()]
            row["index exceptions"] = int((known["negative"] != known["escape_dimension"]).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _blocks(grid: Grid, chunk: int) -> list[tuple[tuple, dict[str, np.ndarray], int, int]]:
    """(shape, items, start, stop) of each part, the same whatever the devices."""
    blocks = []
    for shape in grid.shapes():
        items = grid.items(*shape[:3])
        size = len(items["start"])
        blocks += [(shape, items, s, min(s + chunk, size)) for s in range(0, size, chunk)]
    return blocks


def _from_part(
    run: Path | None, shape: tuple, start: int, solve: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
    """The table of one block: read if it was written before, else solved and written."""
    if run is None:
        return solve()
    loss, K, d, n = shape
    part = run / "points" / f"{loss}-K{K}-d{d}-n{n}-{start:08d}.parquet"
    try:
        return pd.read_parquet(part)
    except (FileNotFoundError, pa.ArrowException):  # not there yet, or damaged
        table = solve()
        runs.write_atomically(part, lambda path: table.to_parquet(path, index=False))
        return table


def _solve_block(
    grid: Grid,
    shape: tuple[str, int, int, int],
    rows: dict[str, np.ndarray],
    ids: np.ndarray,
    **settings: Any,
) -> pd.DataFrame:
    point = _point(shape, grid.start_scale, grid.dense_limit)
    results = parallel.sweep(point, rows, key=jax.random.key(grid.seed), ids=ids, **settings)
    loss, K, d, n = shape
    results["verdict"] = [Verdict(int(code)).label for code in results["verdict"]]
    sizes = {"loss": loss, "num_classes": K, "feature_dim": d, "samples_per_class": n}
    return pd.DataFrame(rows | results).assign(**sizes)


def _listed(name: str, values: Any) -> tuple:
    """A list, tuple or array of a grid as a tuple of plain Python values."""
    if isinstance(values, str) or not np.iterable(values):
        raise checks.reject(name, repr(values), "a list of values", f"Write ({values!r},).")
    if len(values) == 0 and name != "ranks":
        raise checks.reject(name, "an empty list", "a list of at least one value")
    return tuple(v.item() if isinstance(v, np.generic | np.ndarray) else v for v in values)


def _hyperparameters(loss: str) -> tuple[str, ...]:
    checks.check_choice("losses", loss, losses.LOSSES)
    return {"label_smoothing": ("smoothing",), "focal": ("gamma",), "mse": ("scale", "target")}.get(
        loss, ()
    )


def _problem(loss: str, K: int, d: int, n: int, item: dict[str, Any]) -> Problem:
    hyperparameters = {name: item[name] for name in _hyperparameters(loss)}
    decays = (item["lambda_w"], item["lambda_h"], item["lambda_b"])
    return Problem(K, d, n, loss, *decays, hyperparameters)


@functools.lru_cache(maxsize=64)
def _point(
    shape: tuple[str, int, int, int], start_scale: float, dense_limit: int
) -> Callable[[jax.Array, dict[str, jax.Array]], dict[str, jax.Array]]:
    """The work of one item: solve, certify, compare with theory and with the dense spectrum."""
    _, K, d, n = shape
    dense = K * (d + 1) + K * n * d <= dense_limit

    def point(key: jax.Array, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        problem = _problem(*shape, item)
        solution = critical_point(key, problem, item["requested_rank"], scale=start_scale)
        certificate = certify(solution.params, problem, curvature_tol=_CURVATURE_TOL)
        missing = jnp.asarray(math.nan)
        row = {
            name: missing if value is None else value
            for name, value in vars(certificate).items()
            if name != "escape_direction"
        }
        row |= {"steps": solution.steps, "converged": solution.converged}
        row["theory_value"] = _theory_value(problem) if d >= K - 1 else missing
        return row | (_dense_row(solution.params, problem) if dense else {})

    return point


def _theory_value(problem: Problem) -> jax.Array:
    best = minimizer(problem)
    return jnp.where(best.converged, best.value, math.nan)


def _dense_row(params: Params, problem: Problem) -> dict[str, jax.Array]:
    hessian = curvature.hessian(objective, problem)
    eigenvalues = jnp.linalg.eigvalsh(curvature.hessian_matrix(hessian, params))
    counts = curvature.signs(eigenvalues, _CURVATURE_TOL * problem.mu)
    return {
        "smallest_eigenvalue": eigenvalues[0],
        "negative": counts.negative,
        "zero": counts.zero,
        "positive": counts.positive,
    }
