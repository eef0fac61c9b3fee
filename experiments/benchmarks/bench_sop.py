"""SOP: what a training step costs more than cross entropy, and the linear success map.

    python -m experiments.benchmarks.bench_sop

"step" trains the same network by cross entropy, SOP and ELR, in turns; the memory is that of u and
v. "map" solves random linear problems by a fixed number of steps of gradient descent: as one sweep
on all cores, in a NumPy loop, and in NumPy with all problems in one array, each on one thread, at
which NumPy is fastest here (J in coordinates of its row space for all); and by Newton's method
where gradient flow ends. Each section runs in a process of its own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import threadpoolctl

from experiments.benchmarks.bench_training import BATCH, advancing, images
from experiments.benchmarks.curvature_networks import Row, elapsed, markdown, shortest
from experiments.benchmarks.workers import in_process, run
from experiments.sop_linear import solved_together
from ncjax import parallel, runs
from ncjax.sop import linear
from ncjax.training import TrainConfig

MODULE = "experiments.benchmarks.bench_sop"
Section = Literal["step", "map"]
ALL: tuple[Section, ...] = ("step", "map")
NETWORKS = {
    "MLP 2 x 512": ({"network": "mlp", "widths": (512, 512)}, 100),
    "CNN, width 32": ({"network": "cnn", "width": 32}, 20),
}
"""And the steps of a timed call."""
PER_CLASS = (1000, 6000)
SETTINGS = {"gamma": 1e-8, "alpha": 10.0}


def main(sections: tuple[Section, ...] = ALL, out: Path = Path("runs/bench_sop.json")) -> None:
    """Runs the sections, prints a table of each and writes all rows.

    Args:
        sections: which to run.
        out: JSON file of the rows and the environment.
    """
    started = time.perf_counter()
    rows: list[Row] = []
    for section in sections:
        print(f"\n## {section}\n", flush=True)
        found = in_process(MODULE, parallel.cores(), section)
        rows += [{"section": section, **row} for row in found]
        print(markdown(found), flush=True)
    environment = {
        "device": jax.devices()[0].device_kind,
        "cores": parallel.cores(),
        "versions": {name: runs.version_of(name) for name in ("jax", "numpy")},
        "date": time.strftime("%Y-%m-%d"),
        "seconds": elapsed(started),
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{environment}; written: {out}")


def step_section() -> list[Row]:
    """Milliseconds of a step by method, and what u and v take."""
    rows = []
    for name, (network, steps) in NETWORKS.items():
        for per_class in PER_CLASS:
            dataset = images(per_class)
            calls = {
                method: advancing(
                    TrainConfig(batch_size=BATCH, learning_rate=0.01, method=method, **network),
                    dataset,
                    steps,
                )[0]
                for method in ("standard", "sop", "elr")
            }
            seconds = shortest(calls, rounds=15)
            N, K = len(dataset.labels), dataset.num_classes
            row = {"network": name, "N": N}
            row |= {f"{method}, ms": 1e3 * s / steps for method, s in seconds.items()}
            row["sop / standard"] = seconds["sop"] / seconds["standard"]
            row["elr / standard"] = seconds["elr"] / seconds["standard"]
            rows.append(row | {"u and v, MB": 4 * N * (K + 1) / 1e6})
    return rows


def map_section() -> list[Row]:
    """Microseconds of a step of one problem, and milliseconds of a problem by Newton's method."""
    parallel.use_all_cores()
    with jax.enable_x64(True):
        return [_of_rank(rank) for rank in (5, 20, 40)]


def _of_rank(rank: int, problems: int = 64, steps: int = 2000) -> Row:
    def drawn(key: jax.Array, item: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        J, clean, s = linear.random_problem(key, rank, item["k"], most_rank=rank)
        return J, clean + s

    def descended(item: tuple[jax.Array, jax.Array]) -> jax.Array:
        return linear.descend(*item, **SETTINGS, steps=steps).s

    def ended(item: tuple[jax.Array, jax.Array]) -> jax.Array:
        return linear.limit(*item, **SETTINGS).s

    J, y = parallel.sweep(drawn, {"k": np.full(problems, 20)}, key=jax.random.key(0))
    tau = 0.3 / (np.linalg.norm(J, 2, axis=(1, 2)) ** 2 + 80 * np.abs(y).max(1))
    few = 4
    calls = {
        "sweep": lambda: parallel.sweep(descended, (J, y), together=solved_together()),
        "loop": lambda: [by_numpy(J[i], y[i], tau[i], steps) for i in range(few)],
        "array": lambda: by_numpy(J, y, tau[:, None], steps),
        "newton": lambda: parallel.sweep(ended, (J, y), together=solved_together()),
    }
    for found in (np.stack(calls["loop"]()), calls["array"]()[:few]):
        np.testing.assert_allclose(found, calls["sweep"]()[:few], rtol=1e-3, atol=1e-6)
    with threadpoolctl.threadpool_limits(1):
        seconds = shortest(calls, rounds=3)
    each = {name: 1e6 * seconds[name] / steps / problems for name in ("sweep", "array")}
    each["loop"] = 1e6 * seconds["loop"] / steps / few
    return {
        "rank": rank,
        "sweep, us a step": each["sweep"],
        "NumPy loop, us": each["loop"],
        "NumPy array, us": each["array"],
        "loop / sweep": each["loop"] / each["sweep"],
        "array / sweep": each["array"] / each["sweep"],
        "Newton, ms a problem": 1e3 * seconds["newton"] / problems,
        "100,000 steps, ms": 100 * each["sweep"],
    }


def by_numpy(J: np.ndarray, y: np.ndarray, tau: np.ndarray | float, steps: int) -> np.ndarray:
    """`linear.descend` in NumPy, of one problem or of many with a leading axis; its s."""
    gamma, alpha = SETTINGS.values()
    theta = np.zeros((*y.shape[:-1], J.shape[-1], 1))
    u, v = np.full_like(y, gamma), np.full_like(y, gamma)
    transposed = np.ascontiguousarray(np.swapaxes(J, -1, -2))
    rate = np.asarray(tau)[..., None]
    for _ in range(steps):
        R = (J @ theta)[..., 0]
        R += u * u
        R -= v * v
        R -= y
        theta -= rate * (transposed @ R[..., None])
        R *= 2 * alpha * tau
        u -= R * u
        v += R * v
    return u * u - v * v


if __name__ == "__main__":
    run(main, {"step": step_section, "map": map_section})
