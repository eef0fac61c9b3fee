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
    ncjax, in a run       1.6                  1.7        1.6
    ncjax, `hvp` alone    2.0                  2.3        2.4
    PyHessian             1.9                  2.0        2.0
    curvlinops            3.8                  3.2        3.1

    100 steps beside their products    time      over products    N = 5,000    memory, whole program
    ncjax                              6.7 s     68 %             17 %         422 MB
    matfree                            21 s      209 %            53 %         812 MB
    ARPACK (of curvlinops' products)   3.9 s     23 %             7 %
    PyHessian                          3.2 s     31 %             8 %

    time to eigenpairs     top 10    bottom 1    both
    ncjax                  0.35 s    0.73 s      0.82 s
    matfree                0.28 s    1.19 s      1.02 s
    curvlinops + ARPACK    0.59 s    1.57 s      2.16 s
    PyHessian              3.2 s     cannot      cannot

    1,000 small problems                dense     Lanczos, 40 steps
    ncjax, one call                     1.6 s     0.42 s
    torch.func.hessian + LAPACK, loop   13 s
    jitted jax.hessian + LAPACK, loop   2.3 s
    matfree, one call by `vmap`                   0.40 s
    matfree, jitted, loop                         1.3 s
    curvlinops + ARPACK, loop                     258 s

Every basis takes 398 MB (100 vectors of 994,570 float32); measured on the network itself instead of
with a free product, ncjax's overhead is 70 %. Dense, nine tenths of the time are LAPACK's. In the
batch start vectors differ, and with them the largest errors by Lanczos: 1.6e-3 of the norm (ncjax),
6e-5 (matfree), 1e-6 (ARPACK, which restarts).
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
import tyro
from scipy.sparse.linalg import LinearOperator, eigsh

from experiments.benchmarks.curvature_batched import batched_section
from experiments.benchmarks.curvature_extreme import SMALL, extreme_section, matfree_pairs
from experiments.benchmarks.curvature_networks import (
    DISTRIBUTIONS,
    MORE_SAMPLES,
    Row,
    TorchTwin,
    elapsed,
    jax_functions,
    loss,
    markdown,
    peer,
    shortest,
    untrained_network,
)
from ncjax import curvature, runs

Section = Literal["product", "reorth", "extreme", "batched"]

LARGE = (64, 960, 960, 10)
STEPS = 100
"""Of Lanczos, where its reorthogonalisation is timed."""


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


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "product": product_section,
    "reorth": reorth_section,
    "extreme": extreme_section,
    "batched": batched_section,
}

if __name__ == "__main__":
    tyro.cli(main)
