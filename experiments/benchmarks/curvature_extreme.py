"""Section of `bench_curvature`: extreme eigenpairs at equal accuracy."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from experiments.benchmarks.curvature_networks import (
    Network,
    Row,
    TorchTwin,
    elapsed,
    hessian_product,
    in_float64,
    loss,
    peer,
    shortest,
    trained_network,
)
from ncjax import curvature

SMALL = (64, 256, 256, 10)
TRAINING_STEPS = 1000
RESIDUAL, ERROR = 1e-3, 1e-3
"""Equal accuracy: the largest residual, as a share of ||H||, and the largest relative error."""
LADDER = (20, 30, 40, 60, 80, 100)
"""Numbers of Lanczos steps, and sizes of ARPACK's basis; the first that is accurate counts."""
TOLERANCES = (1e-4, 1e-5, 1e-6)
"""Of PyHessian's power iteration, likewise."""
ARPACK = "curvlinops + ARPACK"
TASKS = {"top 10": (0, 10), "bottom 1": (1, 0), "both": (1, 10)}


def extreme_section() -> list[Row]:
    """Time to eigenpairs at equal accuracy, each tool with its cheapest setting that has it."""
    network = trained_network(SMALL, steps=TRAINING_STEPS)
    print(f"training accuracy {network.accuracy():.4f}, loss {network.loss():.1e}\n", flush=True)
    referee = Referee(network)
    twin = TorchTwin(network)
    solvers: dict[str, tuple[Sequence[Any], Callable]] = {
        "ncjax": (LADDER, ncjax_solver(network)),
        "matfree": (LADDER, matfree_solver(network)),
        ARPACK: (LADDER, arpack_solver(network, twin)),
        "PyHessian": (TOLERANCES, pyhessian_solver(twin)),
    }
    rows: list[Row] = []
    for task, (low, high) in TASKS.items():
        ours = None
        for tool, (ladder, solver) in solvers.items():
            before = [r for r in rows if r["tool"] == tool]
            row: Row = {"task": task, "tool": tool, "parameters": network.size}
            if tool == "PyHessian" and low:
                row["setting"] = "cannot"
            elif tool == ARPACK and low and high:
                row["setting"] = "both runs above"
                for key in ("first call, s", "time, s"):
                    row[key] = sum(r.get(key, np.nan) for r in before)
                for key in ("residual / norm", "relative error"):
                    row[key] = max(r.get(key, np.nan) for r in before)
            else:
                known = max((r.get("value", 0) for r in before), default=0) if low and high else 0
                rungs = [value for value in ladder if value >= known]
                row |= cheapest(tool, rungs, solver, referee, low, high)
            ours = row.get("time, s") if ours is None else ours
            row["ours / this"] = ours / row["time, s"] if "time, s" in row else None
            rows.append(row)
    return rows


def cheapest(
    tool: str,
    ladder: Sequence[Any],
    solve: Callable[[Any, int, int], tuple[str, np.ndarray]],
    referee: Referee,
    low: int,
    high: int,
) -> Row:
    """The cheapest setting of a ladder that is accurate enough, and its time."""
    best: Row = {"setting": "not reached"}
    for value in ladder:
        started = time.perf_counter()
        setting, vectors = solve(value, low, high)
        first = elapsed(started)
        residual, error = referee.judge(vectors, low, high)
        if residual > RESIDUAL or error > ERROR or first > best.get("first call, s", np.inf):
            continue
        best = {
            "setting": setting,
            "value": value,
            "first call, s": first,
            "residual / norm": residual,
            "relative error": error,
        }
        if tool != ARPACK:  # whose restarts can make a larger basis the cheaper one
            break
    if "value" in best:
        again = functools.partial(solve, best["value"], low, high)
        rounds = int(np.clip(8 / best["first call, s"], 2, 7))
        best["time, s"] = shortest({"": again}, rounds, warm=False)[""]
    return best


class Referee:
    """Judges eigenvectors by float64 products, eigenvalues by a long float64 run."""

    def __init__(self, network: Network):
        self.network = network
        with jax.enable_x64(True):
            self.point, self.data = in_float64((network.params, network.data))
            hessian = curvature.hessian(loss, *self.data)
            pairs = curvature.extreme_eigenpairs(
                hessian, self.point, (1, 10), "BE", num_steps=120, backend="lanczos"
            )
            self.values, self.norm = np.asarray(pairs.eigenvalues), float(pairs.scale)
            self.judged = jax.jit(rayleigh)
            worst = np.asarray(pairs.residuals).max() / self.norm
        print(f"reference: residuals up to {worst:.0e} of the norm {self.norm:.4g}", flush=True)
        print(f"lowest {self.values[0]:.4g}, tenth from the top {self.values[1]:.4g}\n", flush=True)

    def judge(self, vectors: np.ndarray, low: int, high: int) -> tuple[float, float]:
        """Largest residual over ||H||, and largest relative error, of vectors `[low + high, p]`."""
        with jax.enable_x64(True):
            values, residuals = self.judged(
                self.point, jnp.asarray(vectors, np.float64), *self.data
            )
        wanted = np.concatenate([self.values[:low], self.values[len(self.values) - high :]])
        error = np.abs(np.sort(values) / wanted - 1).max()
        return np.asarray(residuals).max() / self.norm, float(error)


def rayleigh(params: Any, vectors: jax.Array, *batch: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rayleigh quotients and residuals of the Hessian, of rows of any length."""
    product = hessian_product(params, *batch)

    def one(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        vector = vector / jnp.linalg.norm(vector)
        image = product(vector)
        value = vector @ image
        return value, jnp.linalg.norm(image - value * vector)

    return jax.lax.map(one, vectors)


def ncjax_solver(network: Network) -> Callable:
    """`solve(steps, low, high)`: the setting in words, and vectors `[low + high, p]`."""
    hessian = curvature.hessian(loss, *network.data)

    def solve(steps: int, low: int, high: int) -> tuple[str, np.ndarray]:
        pairs = curvature.extreme_eigenpairs(
            hessian,
            network.params,
            (low, high),
            "BE",
            num_steps=steps,
            backend="lanczos",
            start=network.start,
        )
        rows = jax.block_until_ready(pairs.eigenvectors)
        return f"{steps} steps", np.concatenate(
            [np.asarray(leaf).reshape(low + high, -1) for leaf in jax.tree.leaves(rows)], axis=1
        )

    return solve


def matfree_solver(network: Network) -> Callable:
    """As `ncjax_solver`; the gradient is linearised once, as in ncjax."""

    @functools.partial(jax.jit, static_argnums=(0, 1, 2))
    def run(steps: int, low: int, high: int, params: Any, start: jax.Array, *batch: Any) -> Any:
        return matfree_pairs(hessian_product(params, *batch), start, steps, low, high)

    def solve(steps: int, low: int, high: int) -> tuple[str, np.ndarray]:
        vectors = run(steps, low, high, network.params, network.flat_start, *network.data)
        return f"{steps} steps", np.asarray(vectors)

    return solve


def matfree_pairs(
    product: Callable, start: jax.Array, steps: int, low: int, high: int
) -> jax.Array:
    """The `low` first and `high` last Ritz vectors of matfree's Lanczos, as rows."""
    decomp, eig = (peer(f"matfree.{name}") for name in ("decomp", "eig"))
    tridiagonal = decomp.tridiag_sym(steps, reortho="full", custom_vjp=False)
    _, vectors = eig.eigh_partial(tridiagonal)(product, start)
    return jnp.concatenate([vectors[:low], vectors[steps - high :]])


def arpack_solver(network: Network, twin: TorchTwin) -> Callable:
    """As `ncjax_solver`, of one end: SciPy's `eigsh` on curvlinops' exported operator."""
    exported = twin.curvlinops_operator().to_scipy(np.float32)
    twin.choose_threads(twin.curvlinops_product())
    threads = twin.threads
    start = twin.flat(network.start)

    def solve(basis: int, low: int, high: int) -> tuple[str, np.ndarray]:
        twin.use_threads(threads)
        count = 0

        def counted(vector: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return exported @ vector

        products = LinearOperator(exported.shape, matvec=counted, dtype=np.float32)
        which = "SA" if low else "LA"
        _, columns = eigsh(products, low + high, which=which, ncv=basis, tol=0.1, v0=start)
        return f"{which}, ncv {basis}, {count} products", twin.as_rows(columns.T)

    return solve


def pyhessian_solver(twin: TorchTwin) -> Callable:
    """As `ncjax_solver`, of the top end: power iteration with deflation."""
    hessian = twin.pyhessian_hessian()
    twin.choose_threads(twin.pyhessian_product())
    threads = twin.threads

    def solve(tol: float, low: int, high: int) -> tuple[str, np.ndarray]:
        del low
        twin.use_threads(threads)
        peer("torch").manual_seed(0)
        _, vectors = hessian.eigenvalues(maxIter=1000, tol=tol, top_n=high)
        rows = [np.concatenate([np.ravel(part.detach()) for part in v]) for v in vectors]
        return f"tol {tol:g}", twin.as_rows(np.stack(rows))

    return solve
