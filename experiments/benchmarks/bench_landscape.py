"""Certified critical points against a PyTorch loop, optax, and SciPy with ARPACK.

    pip install 'ncjax[bench]'
    python -m experiments.benchmarks.bench_landscape
    python -m experiments.benchmarks.bench_landscape --sections points spectrum device

K = 10, d = 20, n = 30 (6,210 variables), decays 5e-4, 5e-4, 1e-2, float64, random starts of every
rank. Ours is solved to a gradient norm of 1e-9 `problem.force`, certified, and its index counted
exactly, by `ufm.landscape`'s own work of one point. The peers solve within the same ranks:

* torch: gradient descent with momentum (best rate and threads, by hand and by autograd) to the same
  gradient norm, then the dense Hessian (`torch.func`) and `eigvalsh`;
* optax.lbfgs by `vmap`, to 1e-8, best memory and batch, on whole points and on compact ones. It
  certifies nothing;
* SciPy's L-BFGS-B to 1e-8 and ARPACK for the smallest eigenvalue, which counts nothing.

Section `device` gives points a second by points in a call; it needs no peer. BLAS runs on one
thread beside XLA's. Seconds depend on what else runs; ratios are of one run.

Expected: 6 minutes, and the numbers below. Measured on 2026-11-26 on two cores of an Intel Xeon;
jax 0.10.2, optax 0.2.8, SciPy 1.17.1, torch 2.14.1.

    a certified point            cross entropy 2.1 ms, MSE 2.9 ms, focal (300 features) 70 ms
    by `ufm.landscape`           cross entropy 3.7 ms, focal 73 ms
    compilation                  4 s, 4 s, 9 s
    torch, all in                6.0 s, 2,930 times as long
    optax.lbfgs                  64 ms, 31 times; on compact points 3.2 ms, 1.5 times
    L-BFGS-B and ARPACK          56 ms, 27 times
    over the floor of its products at the rate of a large one: 11.6 times (focal 4.9)
    spectrum of 2.7 billion      2.8 ms (focal 5.1 ms), after 3.6 s
    H200 (earlier solver)        8,900 points a second; K = 100, d = 128, n = 50: 0.29
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import threadpoolctl

from experiments.benchmarks.curvature_networks import Row, elapsed, markdown, shortest
from experiments.benchmarks.landscape_cost import (
    floor_section,
    growth_section,
    point_operations,
    rate_of_products,
)
from experiments.benchmarks.landscape_lbfgs import lbfgs_section, scipy_section
from experiments.benchmarks.landscape_points import (
    Size,
    certified,
    grid,
    parts_section,
    points_section,
    timed_sweep,
)
from experiments.benchmarks.landscape_torch import torch_section
from ncjax import parallel, runs, ufm

Section = Literal[
    "points", "parts", "torch", "lbfgs", "scipy", "floor", "growth", "spectrum", "device"
]
ALL: tuple[Section, ...] = (
    "points",
    "parts",
    "torch",
    "lbfgs",
    "scipy",
    "floor",
    "growth",
    "spectrum",
)


def main(
    sections: tuple[Section, ...] = ALL, out: Path = Path("runs/bench_landscape.json")
) -> None:
    """Runs the sections, prints a table of each and writes all rows.

    Args:
        sections: which to run; `device` needs neither torch nor an idle machine's patience.
        out: JSON file of the rows and the environment.
    """
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # of torch about itself
    parallel.use_all_cores()
    started = time.perf_counter()
    rows: list[Row] = []
    for section in sections:
        load = os.getloadavg()[0]
        print(f"\n## {section} (load of the machine at the start: {load:.1f})\n", flush=True)
        # A second BLAS thread, idle, slows down all others.
        with jax.enable_x64(True), threadpoolctl.threadpool_limits(1, "blas"):
            found = SECTIONS[section]()
        rows += [{"section": section, "load": load, **row} for row in found]
        print(markdown(found), flush=True)
    seconds = elapsed(started)
    environment = {
        "device": jax.devices()[0].device_kind,
        "cores": parallel.cores(),
        "versions": {name: runs.version_of(name) for name in ("jax", "optax", "scipy", "torch")},
        "date": time.strftime("%Y-%m-%d"),
        "seconds": seconds,
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{environment}; written: {out}")


def spectrum_section() -> list[Row]:
    """The exact spectrum of 2.7 billion eigenvalues: one call, its problem new each time."""
    rows = []
    for loss in ("cross_entropy", "focal"):
        sizes, decays = (1000, 2048, 1300), (1e-6, 1e-6, 1e-4)
        problem = ufm.Problem(*sizes, loss, *decays)

        def call(problem: ufm.Problem = problem) -> jax.Array:
            return ufm.spectrum_at_minimizer(problem).eigenvalues

        started = time.perf_counter()
        jax.block_until_ready(call())
        first = elapsed(started)
        seconds = shortest({"": call}, rounds=20)[""]
        found = ufm.spectrum_at_minimizer(problem)
        rows.append(
            {
                "loss": loss,
                "K": sizes[0],
                "d": sizes[1],
                "n": sizes[2],
                "eigenvalues": int(found.multiplicities.sum()),
                "first call, s": first,
                "a call, ms": 1e3 * seconds,
            }
        )
    return rows


def device_section() -> list[Row]:
    """Certified points a second on the default device, by points in one call."""
    rate = rate_of_products()
    rows: list[Row] = [{"what": f"matrix product, {rate / 1e9:.0f} GFLOP/s"}]
    on_cpu = jax.devices()[0].platform == "cpu"
    small, large = Size(10, 20, 30), Size(20, 40, 50) if on_cpu else Size(100, 128, 50)
    chunks = {small: (16, 64, 256) if on_cpu else (16, 128, 1024, 8192, 65536)}
    chunks[large] = (4, 16) if on_cpu else (1, 4, 8)
    for size, counts in chunks.items():
        fastest = 0.0
        for count in counts:
            row = throughput(size, count, rate, parallel.together_for_loops())
            rows.append(row)
            if row["points a second"] is None or row["points a second"] < 1.1 * fastest:
                break
            fastest = row["points a second"]
    return rows


def throughput(size: Size, count: int, rate: float, together: int | None) -> Row:
    """One call of so many points, of mixed ranks; None where the memory is not enough."""
    row: Row = dict(zip(("K", "d", "n"), size, strict=True)) | {"points in a call": count}
    starts = -(-count // size.num_classes)
    shape, items = grid("cross_entropy", size, starts).programs()[0]
    chosen = np.random.default_rng(0).permutation(len(items["start"]))[:count]
    items = {name: values[chosen] for name, values in items.items()}
    settings = {"together": together, "backend": "vmap" if together is None else "shard_map"}
    try:
        found, first, seconds = timed_sweep(
            certified(shape), items, rounds=2, key=jax.random.key(0), **settings
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return row | {"points a second": None}
    steps = found["steps"]
    needed = point_operations(size, float(steps.mean()), shape.compact)
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return row | {
        "points a second": count / seconds,
        "a call, s": seconds,
        "compilation, s": first - seconds,
        "steps": float(steps.mean()),
        "most": int(steps.max()),
        "converged": float(found["converged"].mean()),
        "time / floor": seconds / count * rate / needed,
        "peak memory, GB": None if memory is None else memory / 1e9,
    }


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "points": points_section,
    "parts": parts_section,
    "torch": torch_section,
    "lbfgs": lbfgs_section,
    "scipy": scipy_section,
    "floor": floor_section,
    "growth": growth_section,
    "spectrum": spectrum_section,
    "device": device_section,
}

if __name__ == "__main__":
    import tyro  # here, for machines without it that call `main`

    tyro.cli(main)
