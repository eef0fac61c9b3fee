"""Curvature against PyHessian, curvlinops and matfree: same network, data, start and accuracy.

    pip install 'ncjax[bench]'
    python -m experiments.benchmarks.bench_curvature
    python -m experiments.benchmarks.bench_curvature --sections product batched

ReLU networks on the digits (1,437 images, full batch), cross entropy, float32:

* product: a Hessian-vector product over a gradient, each of its own framework;
* reorth: 100 Lanczos steps on a million parameters, without their products, over those products;
* extreme: time to the 10 largest eigenpairs and the smallest, of a network of 85,002 parameters
  trained to zero error. Each tool has the cheapest setting with which a referee in float64 finds
  all residuals below 1e-3 of the norm and all eigenvalues right to 1e-3;
* batched: the smallest eigenpairs of 1,000 unconstrained feature models of 148 parameters, float64.

Peers are at their best: torch with the faster of one thread and two, BLAS with one (a second one,
idle, makes torch three times slower); curvlinops by its export to SciPy's ARPACK, without its
check for determinism; matfree compiled, fully reorthogonalised, with the linearised gradient that
ncjax uses. PyHessian can't reach the bottom: power iteration finds the largest magnitudes, and its
Lanczos calls `torch.eig`, which is no more. Times are the shortest of several; a first call
compiles. ncjax alone recomputes each pair by a fresh product: 10 of its 30 for the top 10.

Expected: 6 to 7 minutes, and the numbers below. Measured on 2026-11-24 on two cores of an AMD EPYC,
CPU only; jax 0.10.2, torch 2.14.1, curvlinops 3.0.1, PyHessian 0.1, matfree 0.6.3. That machine is
shared: seconds differ by up to a third from run to run, ratios by less.

    product / gradient    85,002 parameters    994,570    994,570, N = 5,000
    ncjax, in a run       1.6                  1.9        1.6
    ncjax, `hvp` alone    2.0                  2.4        2.2
    PyHessian             1.9                  2.0        2.0
    curvlinops            4.1                  3.2        3.2

    100 steps beside their products    time      over products    N = 5,000    memory, whole program
    ncjax                              5.9 s     59 %             17 %         422 MB
    matfree                            16 s      161 %            45 %         812 MB
    ARPACK (of curvlinops' products)   3.3 s     21 %             6 %
    PyHessian                          2.0 s     20 %             6 %

    time to eigenpairs     top 10    bottom 1    both
    ncjax                  0.34 s    0.81 s      0.81 s
    matfree                0.23 s    1.11 s      1.24 s
    curvlinops + ARPACK    0.54 s    1.59 s      2.14 s
    PyHessian              3.3 s     cannot      cannot

    1,000 small problems                dense     Lanczos, 40 steps
    ncjax, one call                     1.5 s     0.71 s
    torch.func.hessian + LAPACK, loop   13 s
    jitted jax.hessian + LAPACK, loop   2.0 s
    matfree, one call by `vmap`                   0.40 s
    matfree, jitted, loop                         0.74 s
    curvlinops + ARPACK, loop                     231 s

Every basis takes 398 MB (100 vectors of 994,570 float32); measured on the network itself instead of
with a free product, ncjax's overhead is 69 %. Dense, nine tenths of the time are LAPACK's. In the
batch start vectors differ, and with them the largest errors by Lanczos: 1.6e-3 of the norm (ncjax),
6e-5 (matfree), 1e-6 (ARPACK, which restarts).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import itertools
import json
import operator
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
import threadpoolctl
import tyro
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

from ncjax import curvature, data, losses, runs, ufm

Section = Literal["product", "reorth", "extreme", "batched"]
Row = dict[str, Any]

SMALL = (64, 256, 256, 10)
LARGE = (64, 960, 960, 10)
MORE_SAMPLES = 5000
"""The digits, repeated, as a second number of samples."""
TRAINING_STEPS = 1000
STEPS = 100
"""Of Lanczos, where its reorthogonalisation is timed."""
RESIDUAL, ERROR = 1e-3, 1e-3
"""Equal accuracy: the largest residual, as a share of ||H||, and the largest relative error."""
LADDER = (20, 30, 40, 60, 80, 100)
"""Numbers of Lanczos steps, and sizes of ARPACK's basis; the first that is accurate counts."""
TOLERANCES = (1e-4, 1e-5, 1e-6)
"""Of PyHessian's power iteration, likewise."""
ARPACK = "curvlinops + ARPACK"
TASKS = {"top 10": (0, 10), "bottom 1": (1, 0), "both": (1, 10)}
PROBLEMS, SAMPLED = 1000, 20
"""Of the batch, and those of them on which the loops over peers are timed."""
BATCH_STEPS = 40
DISTRIBUTIONS = {
    "torch": "torch",
    "pyhessian": "PyHessian",
    "curvlinops": "curvlinops-for-pytorch",
    "matfree": "matfree",
}


def main(
    sections: tuple[Section, ...] = ("product", "reorth", "extreme", "batched"),
    out: Path = Path("runs/bench_curvature.json"),
) -> None:
    """Runs the sections, prints a table of each and writes all rows.

    Args:
        sections: which to run.
        out: JSON file of the rows and the environment.
    """
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # of torch about itself
    for package in DISTRIBUTIONS:
        peer(package)
    started = time.perf_counter()
    rows: list[Row] = []
    for section in sections:
        load = os.getloadavg()[0]
        print(f"\n## {section} (load of the machine at the start: {load:.1f})\n", flush=True)
        with threadpoolctl.threadpool_limits(1, "blas"):  # idle BLAS threads slow down all others
            found = SECTIONS[section]()
        rows += [{"section": section, "load": load, **row} for row in found]
        print(markdown(found), flush=True)
    seconds = elapsed(started)
    versions = {"jax": jax.__version__}
    versions |= {name: importlib.metadata.version(d) for name, d in DISTRIBUTIONS.items()}
    environment = {
        "cores": os.cpu_count(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": seconds,
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{seconds:.0f} s; written: {out}")


# ---------------------------------------------------------------------------------------------
# 1. Products
# ---------------------------------------------------------------------------------------------


def product_section() -> list[Row]:
    """The time of a Hessian-vector product over that of a gradient, each of its own framework."""
    rows = []
    for widths, samples in ((SMALL, None), (LARGE, None), (LARGE, MORE_SAMPLES)):
        network, found = untrained_network(widths, samples), product_times(widths, samples)
        for tool, (gradient, product) in found.items():
            rows.append(
                {
                    "parameters": network.size,
                    "N": network.samples,
                    "tool": tool,
                    "gradient, ms": 1e3 * gradient,
                    "product, ms": 1e3 * product,
                    "product / gradient": product / gradient,
                    "ours / this": found["ncjax"][1] / product,
                }
            )
    return rows


@functools.cache
def product_times(widths: Sequence[int], samples: int | None) -> dict[str, tuple[float, float]]:
    """Seconds of a gradient and of a product, by tool; the two take turns."""
    network = untrained_network(widths, samples)
    rounds = 9 if samples is None else 4
    times = shortest(jax_functions(network), rounds)
    gradient = times["gradient"]
    found = {
        "ncjax": (gradient, (times["6 in turn"] - times["1 in turn"]) / 5),
        "ncjax, one `hvp` alone": (gradient, times["one"]),
    }
    twin = TorchTwin(network)
    for tool, product in {
        "PyHessian": twin.pyhessian_product(),
        "curvlinops": twin.curvlinops_product(),
    }.items():
        twin.choose_threads(product)
        times = shortest({"gradient": twin.gradient, "product": product}, rounds)
        found[tool] = (times["gradient"], times["product"])
    return found


# ---------------------------------------------------------------------------------------------
# 2. Reorthogonalisation
# ---------------------------------------------------------------------------------------------


def reorth_section() -> list[Row]:
    """What 100 Lanczos steps on a million parameters cost beside their products.

    The algorithms run with a product that is nearly free, a diagonal of the same size. Their whole
    time, Ritz vectors and checks included, is compared with that of the network's products. The
    last row checks this on the network itself.
    """
    network = untrained_network(LARGE, None)
    few, many = (product_times(LARGE, samples) for samples in (None, MORE_SAMPLES))
    size, start = network.size, network.flat_start
    diagonal = jnp.linspace(-0.1, 1, size) ** 9
    matrix = curvature.linear_map(scaled, diagonal)
    extreme = functools.partial(
        curvature.extreme_eigenpairs, k=1, which="LA", num_steps=STEPS, backend="lanczos"
    )
    alone = jax.jit(lambda: extreme(matrix, start).eigenvalues).lower().compile()
    matfree = matfree_on_diagonal.lower(STEPS, diagonal, start).compile()
    vectors = list(np.random.default_rng(0).standard_normal((STEPS // 2, size), np.float32))
    one_of_pyhessian = pyhessian_step(vectors)
    del vectors
    algorithms = {
        "ncjax": ("ncjax", 4, lambda: extreme(matrix, start).eigenvalues),
        "matfree": ("ncjax", 1, lambda: matfree(diagonal, start)),
        "ARPACK, 1 thread": ("curvlinops", 1, arpack_on_diagonal(diagonal, start, 1)),
        "ARPACK, 2 threads": ("curvlinops", 1, arpack_on_diagonal(diagonal, start, 2)),
        "PyHessian": ("PyHessian", 3, one_of_pyhessian),
    }
    rows: list[Row] = []
    for tool, (products_of, rounds, run) in algorithms.items():
        seconds = shortest({"": run}, rounds, warm=rounds > 1)[""]
        seconds *= STEPS if tool == "PyHessian" else 1
        products = [STEPS * found[products_of][1] for found in (few, many)]
        row = {
            "tool": tool,
            "parameters": size,
            "all but products, s": seconds,
            "products, s": products[0],
            "overhead": seconds / products[0],
            f"overhead at N = {MORE_SAMPLES:,}": seconds / products[1],
            "ours / this": (rows[0]["all but products, s"] if rows else seconds) / seconds,
            "basis, MB": STEPS * size * 4 / 1e6,
        }
        compiled = {"ncjax": alone, "matfree": matfree}.get(tool)
        row["program, MB"] = None if compiled is None else total_memory(compiled) / 1e6
        rows.append(row)
    hessian = curvature.hessian(loss, *network.data)
    whole = shortest({"": lambda: extreme(hessian, network.params).eigenvalues}, rounds=2)[""]
    products = (STEPS + 1) * few["ncjax"][1]  # one checks the pair
    measured = {"tool": "ncjax, on the network", "parameters": size, "products, s": products}
    measured |= {"all but products, s": whole - products, "overhead": whole / products - 1}
    return [*rows, measured]


def arpack_on_diagonal(diagonal: jax.Array, start: jax.Array, threads: int) -> Callable[[], Any]:
    """A call of SciPy's `eigsh` that ends after its first `STEPS` steps."""
    numbers, first = np.asarray(diagonal), np.asarray(start)
    matrix = LinearOperator(2 * numbers.shape, matvec=lambda v: numbers * v, dtype=np.float32)

    def run() -> Any:
        with threadpoolctl.threadpool_limits(threads, "blas"):
            return eigsh(matrix, 1, which="LA", ncv=STEPS, tol=0.1, v0=first)

    return run


def pyhessian_step(vectors: Sequence[np.ndarray]) -> Callable[[], Any]:
    """A call that makes a vector orthogonal to others as PyHessian's Lanczos does.

    That Lanczos itself ends in an error, for it calls `torch.eig`, which torch has removed.
    """
    torch = peer("torch")
    torch.set_num_threads(2)
    orthnormal = peer("pyhessian.utils").orthnormal
    basis = [[torch.tensor(vector / np.linalg.norm(vector))] for vector in vectors]
    fresh = basis[0][0].clone()
    return lambda: orthnormal([fresh.clone()], basis)


def scaled(vector: jax.Array, diagonal: jax.Array) -> jax.Array:
    """The product with a diagonal matrix."""
    return diagonal * vector


@functools.partial(jax.jit, static_argnums=0)
def matfree_on_diagonal(steps: int, diagonal: jax.Array, start: jax.Array) -> jax.Array:
    """The largest Ritz pair by matfree, fully reorthogonalised."""
    return matfree_pairs(lambda v: diagonal * v, start, steps, 0, 1)


def total_memory(compiled: Any) -> int:
    """Bytes of a compiled program: arguments, results and everything between."""
    analysis = compiled.memory_analysis()
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return sum(getattr(analysis, part) for part in parts)


# ---------------------------------------------------------------------------------------------
# 3. Extreme eigenpairs
# ---------------------------------------------------------------------------------------------


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


# ---------------------------------------------------------------------------------------------
# 4. Batches of small problems
# ---------------------------------------------------------------------------------------------


def batched_section() -> list[Row]:
    """The lowest eigenpair of each of 1,000 unconstrained feature models of 148 parameters.

    In float64. ncjax and, by `vmap`, matfree take all in one call; the loops over single problems
    are timed on some of them. All errors are those on these.
    """
    with jax.enable_x64(True):
        problems, points = small_problems()
        some = jax.tree.map(operator.itemgetter(slice(SAMPLED)), (problems, points))
        judge = functools.partial(batch_error, *exact_lowest(*some))
        rows = []
        for backend in ("dense", "lanczos"):
            calls = {"ncjax, one call": functools.partial(examine_all, backend)}
            if backend == "lanczos":
                calls["matfree, one call by `vmap`"] = matfree_all
            ours = None
            for tool, call in calls.items():
                started = time.perf_counter()
                lowest = jax.block_until_ready(call(problems, points))
                row: Row = {"way": backend, "tool": tool, "first call, s": elapsed(started)}
                row["time, s"] = shortest({"": functools.partial(call, problems, points)}, 5)[""]
                row["error / norm"] = judge(lowest[:SAMPLED])
                ours = ours or row["time, s"]
                rows.append({**row, "ours / this": ours / row["time, s"]})
            for tool, lowest_of in looped_peers(backend).items():
                values, seconds = looped(lowest_of, problems, points)
                row = {"way": backend, "tool": f"{tool}, in a loop", "time, s": seconds}
                row |= {"error / norm": judge(values), "ours / this": ours / seconds}
                rows.append(row)
    return rows


@functools.partial(jax.jit, static_argnums=0)
def examine_all(
    backend: Literal["dense", "lanczos"], problems: ufm.Problem, points: ufm.Params
) -> jax.Array:
    """The smallest eigenvalues, by `curvature.examine`; 50 at once stay in the cache."""

    def examined(both: tuple[ufm.Problem, ufm.Params]) -> jax.Array:
        problem, point = both
        hessian = curvature.hessian(ufm.objective, problem)
        steps = None if backend == "dense" else BATCH_STEPS
        found = curvature.examine(hessian, point, backend=backend, num_steps=steps)
        return found.escape_value

    return jax.lax.map(examined, (problems, points), batch_size=50)


@jax.jit
def matfree_all(problems: ufm.Problem, points: ufm.Params) -> jax.Array:
    """The smallest Ritz values, by matfree."""
    return jax.lax.map(lambda both: matfree_lowest(*both), (problems, points), batch_size=50)


def looped(
    lowest_of: Callable[[ufm.Problem, ufm.Params], Any],
    problems: ufm.Problem,
    points: ufm.Params,
) -> tuple[np.ndarray, float]:
    """The values of the first problems, and the seconds that a loop over all would take."""
    on_host = jax.device_get((problems, points))
    some = [jax.tree.map(operator.itemgetter(i), on_host) for i in range(SAMPLED)]

    def loop() -> np.ndarray:
        return np.array([float(lowest_of(*one)) for one in some])

    return loop(), shortest({"": loop}, rounds=3, warm=False)[""] * PROBLEMS / SAMPLED


def batch_error(exact: np.ndarray, norms: np.ndarray, lowest: Any) -> float:
    """The largest error of smallest eigenvalues, as a share of the norm."""
    return float((np.abs(np.asarray(lowest) - exact) / norms).max())


def small_problems() -> tuple[ufm.Problem, ufm.Params]:
    """1,000 models of K = 4, d = 9, n = 3, over weight decays, each at a random point."""

    def model(decay: jax.Array) -> ufm.Problem:
        return ufm.Problem(4, 9, 3, "cross_entropy", decay, decay, 1e-2)

    problems = jax.vmap(model)(jnp.geomspace(1e-4, 1e-1, PROBLEMS))
    keys = jax.random.split(jax.random.key(0), PROBLEMS)
    return problems, jax.vmap(lambda key: ufm.init(key, model(jnp.ones(())), 1.0))(keys)


def exact_lowest(problems: ufm.Problem, points: ufm.Params) -> tuple[np.ndarray, np.ndarray]:
    """Smallest eigenvalues and norms, of JAX's own dense Hessians."""
    values = np.linalg.eigvalsh(np.asarray(jax.vmap(jax_hessian)(problems, points)))
    return values[:, 0], np.abs(values).max(1)


def looped_peers(backend: str) -> dict[str, Callable[[ufm.Problem, ufm.Params], Any]]:
    """For each peer a function of one problem and point: the smallest eigenvalue."""
    peer("torch").set_num_threads(1)
    if backend == "dense":
        return {
            "torch.func.hessian + LAPACK": torch_dense,
            "jitted jax.hessian + LAPACK": jax_dense,
        }
    return {"matfree, jitted": jax.jit(matfree_lowest), ARPACK: arpack_lowest}


def torch_dense(problem: ufm.Problem, point: ufm.Params) -> float:
    """By torch's dense Hessian."""
    torch = peer("torch")
    labels = torch.tensor(problem.labels).long()
    shapes = [leaf.shape for leaf in jax.tree.leaves(point)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    decays = [float(d) for d in (problem.lambda_w, problem.lambda_h, problem.lambda_b)]

    def objective(flat: Any) -> Any:
        parts = [p.reshape(s) for p, s in zip(flat.split(sizes), shapes, strict=True)]
        W, H, b = parts
        fit = torch.nn.functional.cross_entropy(H @ W.T + b, labels)
        return fit + sum(0.5 * d * (p * p).sum() for d, p in zip(decays, parts, strict=True))

    flat = torch.tensor(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(point)]))
    return scipy.linalg.eigh(torch.func.hessian(objective)(flat).numpy(), driver="evd")[0][0]


@jax.jit
def jax_hessian(problem: ufm.Problem, point: ufm.Params) -> jax.Array:
    """The dense Hessian."""
    flat, unravel = ravel_pytree(point)
    return jax.hessian(lambda v: ufm.objective(unravel(v), problem))(flat)


def jax_dense(problem: ufm.Problem, point: ufm.Params) -> float:
    """By JAX's dense Hessian, one at a time."""
    return scipy.linalg.eigh(np.asarray(jax_hessian(problem, point)), driver="evd")[0][0]


def matfree_lowest(problem: ufm.Problem, point: ufm.Params) -> jax.Array:
    """The Rayleigh quotient of the lowest Ritz vector, by matfree's Lanczos."""
    _, unravel = ravel_pytree(point)
    of_trees = jax.linearize(jax.grad(lambda p: ufm.objective(p, problem)), point)[1]

    def product(vector: jax.Array) -> jax.Array:
        return ravel_pytree(of_trees(unravel(vector)))[0]

    vector = matfree_pairs(product, jnp.asarray(batch_start()), BATCH_STEPS, 1, 0)[0]
    return vector @ product(vector)


@functools.cache
def batch_start() -> np.ndarray:
    """The start vector of the peers' runs on small problems."""
    return np.random.default_rng(0).standard_normal(148)


def arpack_lowest(problem: ufm.Problem, point: ufm.Params) -> float:
    """By SciPy's `eigsh` on curvlinops' Hessian of the fit, plus the decay."""
    torch, curvlinops = peer("torch"), peer("curvlinops")

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W, self.H, self.b = (
                torch.nn.Parameter(torch.tensor(np.asarray(leaf)))
                for leaf in (point.W, point.H, point.b)
            )

        def forward(self, inputs: Any) -> Any:
            del inputs
            return self.H @ self.W.T + self.b

    model, labels = Model(), torch.tensor(problem.labels).long()
    fit = curvlinops.HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(torch.zeros(len(labels), 1), labels)],
        check_deterministic=False,
        num_data=len(labels),
    ).to_scipy(np.float64)
    decays = (problem.lambda_w, problem.lambda_h, problem.lambda_b)
    decay = np.concatenate(
        [
            np.full(leaf.numel(), float(d))
            for leaf, d in zip(model.parameters(), decays, strict=True)
        ]
    )
    whole = LinearOperator(fit.shape, matvec=lambda v: fit @ v + decay * v, dtype=np.float64)
    value = eigsh(
        whole, 1, which="SA", ncv=BATCH_STEPS, tol=1e-3, v0=batch_start(), return_eigenvectors=False
    )
    return float(value[0])


# ---------------------------------------------------------------------------------------------
# The network, here and in torch
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Network:
    """A ReLU network at a point, its data (images `[N, D]` and labels) and a start vector."""

    params: list[dict[str, jax.Array]]
    data: tuple[jax.Array, jax.Array]
    start: list[dict[str, jax.Array]]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @property
    def samples(self) -> int:
        """N."""
        return len(self.data[1])

    @property
    def flat_start(self) -> jax.Array:
        """The start vector, `[p]`."""
        return ravel_pytree(self.start)[0]

    def loss(self) -> float:
        """Mean cross entropy."""
        return float(loss(self.params, *self.data))

    def accuracy(self) -> float:
        """On the training data."""
        return float((logits(self.params, self.data[0]).argmax(1) == self.data[1]).mean())


def logits(params: list[dict[str, jax.Array]], images: jax.Array) -> jax.Array:
    """Of the network, `[N, K]`."""
    hidden = images
    for layer in params[:-1]:
        hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"])
    return hidden @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross entropy."""
    return losses.cross_entropy(logits(params, images), labels).mean()


def untrained_network(widths: Sequence[int], samples: int | None) -> Network:
    """A Gaussian network on the digits, repeated to a number of samples (as they are if None)."""
    digits = data.load("digits")
    images = digits.images.reshape(len(digits.images), -1)
    samples = len(images) if samples is None else samples
    images, labels = (np.resize(a, (samples, *a.shape[1:])) for a in (images, digits.labels))
    shapes = list(itertools.pairwise(widths))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = [
        {"bias": jnp.zeros(n), "kernel": (2 / m) ** 0.5 * jax.random.normal(key, (m, n))}
        for key, (m, n) in zip(keys, shapes, strict=True)
    ]
    flat, unravel = ravel_pytree(params)
    start = unravel(jax.random.normal(jax.random.key(1), flat.shape))
    return Network(params, (jnp.asarray(images), jnp.asarray(labels)), start)


def trained_network(widths: Sequence[int], steps: int) -> Network:
    """The same after some Adam steps on batches of 128."""
    network = untrained_network(widths, None)
    images, labels = network.data
    optimizer = optax.adam(1e-3)

    @jax.jit
    def trained(params: Any) -> Any:
        def step(state: tuple, key: jax.Array) -> tuple[tuple, None]:
            params, moments = state
            batch = jax.random.randint(key, (128,), 0, len(images))
            gradient = jax.grad(loss)(params, images[batch], labels[batch])
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), None

        keys = jax.random.split(jax.random.key(2), steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    return dataclasses.replace(network, params=trained(network.params))


def hessian_product(params: Any, *batch: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The Hessian's product of flat vectors, the gradient linearised once."""
    _, unravel = ravel_pytree(params)
    product = jax.linearize(lambda p: jax.grad(loss)(p, *batch), params)[1]
    return lambda vector: ravel_pytree(product(unravel(vector)))[0]


def jax_functions(network: Network) -> dict[str, Callable]:
    """Compiled: a gradient, one `curvature.hvp`, and `count` products of an `Operator` in turn."""

    @jax.jit
    def gradient(params: Any, *batch: jax.Array) -> Any:
        return jax.grad(loss)(params, *batch)

    @jax.jit
    def single(params: Any, vector: Any, *batch: jax.Array) -> Any:
        return curvature.hvp(lambda p: loss(p, *batch), params, vector)

    @jax.jit
    def in_turn(count: int, params: Any, vector: Any, *batch: jax.Array) -> Any:
        hessian = curvature.hessian(loss, *batch)
        product = hessian.setup(params, hessian.args).product

        def step(_: Any, vector: Any) -> Any:
            image = product(vector)
            norm = curvature.global_norm(image)
            return jax.tree.map(lambda leaf: leaf / norm, image)

        return jax.lax.fori_loop(0, count, step, vector)

    params, start, batch = network.params, network.start, network.data
    return {
        "gradient": lambda: gradient(params, *batch),
        "one": lambda: single(params, start, *batch),
        "1 in turn": lambda: in_turn(1, params, start, *batch),
        "6 in turn": lambda: in_turn(6, params, start, *batch),
    }


def in_float64(tree: Any) -> Any:
    """Floating-point leaves in float64, under `jax.enable_x64`."""

    def wide(leaf: jax.Array) -> jax.Array:
        array = np.asarray(leaf)
        return jnp.asarray(array, np.float64 if array.dtype == np.float32 else array.dtype)

    return jax.tree.map(wide, tree)


class TorchTwin:
    """The same network, data and vectors in torch, and the torch peers' operators on it."""

    def __init__(self, network: Network):
        torch = peer("torch")
        self.torch, self.network = torch, network
        modules = []
        for layer in network.params:
            linear = torch.nn.Linear(*layer["kernel"].shape)
            linear.weight.data = torch.tensor(np.asarray(layer["kernel"]).T.copy())
            linear.bias.data = torch.tensor(np.asarray(layer["bias"]).copy())
            modules += [linear, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*modules[:-1])
        self.params = list(self.model.parameters())
        self.loss = torch.nn.CrossEntropyLoss()
        images, labels = (np.asarray(array) for array in network.data)
        self.data = (torch.tensor(images), torch.tensor(labels).long())
        ours, theirs = self.loss(self.model(self.data[0]), self.data[1]).item(), network.loss()
        if abs(ours - theirs) > 1e-5 * max(1.0, abs(theirs)):
            raise RuntimeError(f"the twin's loss is {ours}, not {theirs}")
        self.threads = 1

    def gradient(self) -> Any:
        """Of the mean loss."""
        return self.torch.autograd.grad(
            self.loss(self.model(self.data[0]), self.data[1]), self.params
        )

    def pyhessian_hessian(self) -> Any:
        """PyHessian's object; the graph of the gradient is built once, here."""
        self.model.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of create_graph
            return peer("pyhessian").hessian(self.model, self.loss, data=self.data, cuda=False)

    def pyhessian_product(self) -> Callable[[], Any]:
        """A call that makes one product with PyHessian."""
        hessian, vector = self.pyhessian_hessian(), self.random_like()
        product = peer("pyhessian.utils").hessian_vector_product
        return lambda: product(hessian.gradsH, hessian.params, vector)

    def curvlinops_operator(self) -> Any:
        """curvlinops' operator; its check for determinism, 2 products and more, is left out."""
        return peer("curvlinops").HessianLinearOperator(
            self.model,
            self.loss,
            self.params,
            [self.data],
            check_deterministic=False,
            num_data=len(self.data[1]),
        )

    def curvlinops_product(self) -> Callable[[], Any]:
        """A call that makes one product with curvlinops."""
        operator = self.curvlinops_operator()
        vector = self.torch.randn(self.network.size)
        return lambda: operator @ vector

    def choose_threads(self, call: Callable[[], Any]) -> None:
        """Sets the faster of one thread and two."""
        seconds = {}
        for count in (1, 2):
            self.use_threads(count)
            seconds[count] = shortest({"": call}, rounds=4)[""]
        self.use_threads(min(seconds, key=seconds.__getitem__))

    def use_threads(self, count: int) -> None:
        """Sets the number of torch's threads."""
        self.threads = count
        self.torch.set_num_threads(count)

    def random_like(self) -> list[Any]:
        """A random vector as a list of tensors."""
        return [self.torch.randn_like(param) for param in self.params]

    def flat(self, tree: list[dict[str, jax.Array]]) -> np.ndarray:
        """A pytree like the network's as a vector in torch's order: kernels transposed, first."""
        parts = [part for layer in tree for part in (np.asarray(layer["kernel"]).T, layer["bias"])]
        return np.concatenate([np.ravel(part) for part in parts])

    def as_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows in torch's order as rows in that of the JAX network."""
        found, at = [], 0
        for layer in self.network.params:
            m, n = layer["kernel"].shape
            kernel = rows[:, at : at + m * n].reshape(len(rows), n, m).transpose(0, 2, 1)
            bias = rows[:, at + m * n : at + m * n + n]
            found += [bias, kernel.reshape(len(rows), -1)]
            at += m * n + n
        return np.concatenate(found, axis=1)


# ---------------------------------------------------------------------------------------------
# Tools
# ---------------------------------------------------------------------------------------------


def peer(package: str) -> ModuleType:
    """Imports a peer.

    Raises:
        ModuleNotFoundError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        remedy = f"this benchmark compares with {package}: pip install 'ncjax[bench]'"
        raise ModuleNotFoundError(remedy) from error


def elapsed(since: float) -> float:
    """Seconds since a reading of `time.perf_counter`."""
    return time.perf_counter() - since


def shortest(
    calls: dict[Any, Callable[[], Any]], rounds: int, warm: bool = True
) -> dict[Any, float]:
    """The shortest time of each call; they take turns, so that a busy moment hits all alike.

    Args:
        calls: functions of no argument; what they return is waited for.
        rounds: times each is called.
        warm: call each once before, unmeasured.
    """
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for call in calls.values() if warm else ():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(elapsed(started))
    return {name: min(seconds) for name, seconds in times.items()}


def markdown(rows: list[Row]) -> str:
    """A table of all keys that occur."""

    def cell(value: Any) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    keys = list(dict.fromkeys(key for row in rows for key in row if key != "value"))
    lines = [keys, ["---"] * len(keys), *[[cell(row.get(key)) for key in keys] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "product": product_section,
    "reorth": reorth_section,
    "extreme": extreme_section,
    "batched": batched_section,
}

if __name__ == "__main__":
    tyro.cli(main)
