"""SENet's training against the official step in PyTorch, its memory, and 70,000 points by stage.

    pip install 'ncjax[bench,senet]'
    python -m experiments.benchmarks.bench_senet

* Digits (1,000 of them, 64 pixels), the official network (three layers of 1,024) and weights, one
  core each: PyTorch takes the official step for as long as it is given, with the official schedule,
  whose rate hardly falls in that time, and with one that ends with it. Against it, the shortest of
  our trainings (numbers of steps double) that is as near to the exact coefficients of the same 20
  points, by the residual of their optimality conditions and by the objective.
* Peak memory of a training step by two passes, at a fixed block, with the number of points.
* Fashion-MNIST, all 70,000 clustered from training on 2,000: time and peak memory by stage.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

WIDTHS = (1024, 1024, 1024)
GAMMA, LAM = 200.0, 0.9
STEPS = (12, 25, 50, 100, 200)


def main(
    out: Path = Path("runs/bench_senet.json"),
    features: Path = Path("runs/senet_images/features"),
    seconds: float = 400.0,
) -> None:
    """Runs everything, prints tables and writes all rows.

    Args:
        out: JSON file of the rows and the environment.
        features: folder where Fashion-MNIST's features are kept, or will be.
        seconds: processor time for PyTorch, with each schedule.
    """
    from experiments.benchmarks.curvature_networks import markdown
    from ncjax import runs

    peers = {
        name: _in_process(1, "torch", name, seconds)
        for name in ("official schedule", "schedule of the time given")
    }
    ours = [_in_process(1, "ncjax", steps) for steps in STEPS]
    rows = [{"tool": "ncjax", **row} for row in ours]
    for name, found in peers.items():
        best = min(found, key=lambda row: row["KKT residual"])
        for measure in ("KKT residual", "objective / minimum"):
            times = [row["processor, s"] for row in ours if row[measure] <= best[measure]]
            ratio = best["processor, s"] / min(times) if times else float("nan")
            best = best | {f"its time / ours to equal {measure}": ratio}
        rows.append({"tool": f"torch, {name}", **best})
    print(markdown(rows), flush=True)
    memory = [_in_process(2, "memory", N) for N in (2000, 20_000)]
    print(markdown(memory), flush=True)
    stages = _in_process(2, "stages", str(features))
    print(markdown(stages), flush=True)
    environment = {
        "versions": {name: runs.version_of(name) for name in ("jax", "torch", "scikit-learn")},
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    tables = {"training": rows, "peers": peers, "memory": memory, "stages": stages}
    runs.write_atomically(out, json.dumps({"environment": environment, **tables}, indent=1))
    print(f"{environment}; written: {out}")


def _in_process(cores: int, *arguments: object) -> object:
    """What a worker finds, in a process on that many cores."""
    command = [sys.executable, "-m", "experiments.benchmarks.bench_senet", "--worker"]
    threads = {key: str(cores) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [*command, str(cores), *map(str, arguments)],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def worker(cores: int, kind: str, *arguments: str) -> object:
    """What one process measures."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    return {"torch": _torch, "ncjax": _ours, "memory": _memory, "stages": _stages}[kind](*arguments)


def _digits() -> tuple[np.ndarray, Callable[[np.ndarray], dict]]:
    """Points, and how near coefficients of all of them are to the exact ones of some."""
    import jax

    from ncjax import data
    from ncjax.senet import ElasticNet, exact_coefficients, optimality

    images = np.asarray(data.load("digits").images, np.float32).reshape(-1, 64)[:1000]
    points = images / np.linalg.norm(images, axis=1, keepdims=True)
    net, rows = ElasticNet(GAMMA, LAM), np.arange(0, 1000, 50)
    exact = exact_coefficients(net, points, rows).astype(np.float32)
    own = rows[:, None] == np.arange(1000)[None, :]

    def measure(found: np.ndarray) -> dict:
        taken = np.where(own, 0, found[rows])
        got = jax.device_get(optimality(net, points[rows], points, taken, exact, own))
        return {
            "KKT residual": float(got.kkt_residual.mean()),
            "objective / minimum": got.excess + 1,
            "relative error": float(got.relative_error.mean()),
        }

    return points, measure


def _torch(schedule: str, seconds: str) -> list[dict]:
    import torch

    from experiments.benchmarks import senet_torch

    torch.set_num_threads(1)
    points, measure = _digits()
    settings = {"widths": WIDTHS, "gamma": GAMMA, "lam": LAM, "measure": measure}
    if schedule == "official schedule":
        return senet_torch.train(points, seconds=float(seconds), **settings)
    (first,) = senet_torch.train(points, seconds=1e9, total=50, **settings)
    total = int(float(seconds) / first["processor, s"] * 50) // 50 * 50
    return senet_torch.train(points, seconds=1e9, total=total, **settings)


def _ours(steps: str) -> dict:
    """A training, compiled before."""
    import jax

    from ncjax.senet import ElasticNet, SelfExpressiveNet, TrainConfig, train
    from ncjax.senet.model import coefficients

    points, measure = _digits()
    model, net = SelfExpressiveNet(WIDTHS, WIDTHS[-1]), ElasticNet(GAMMA, LAM)
    config = TrainConfig(steps=int(steps), batch_size=1000, sampled=1, every=int(steps))
    spent = []
    for _ in range(2):
        started = time.process_time()
        trained = train(model, points, net, config)
        spent.append(time.process_time() - started)
    inputs = (points - trained.mean) * points.shape[1] ** 0.5
    queries, keys = jax.device_get(model.apply({"params": trained.params}, inputs))
    found = np.asarray(coefficients(queries, keys, float(trained.params["offset"])))
    return {"steps": int(steps), "processor, s": spent[1], **measure(found)} | {
        "compilation, s": spent[0] - spent[1]
    }


def _memory(count: str) -> dict:
    """Of training by two passes over blocks of 1,000 keys; data of 500 dimensions."""
    from ncjax.senet import ElasticNet, SelfExpressiveNet, TrainConfig, train

    points = np.random.default_rng(0).normal(size=(int(count), 500)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    config = TrainConfig(steps=2, batch_size=500, block=1000, sampled=2, every=2)
    before = _peak()
    train(SelfExpressiveNet((512, 512), 512), points, ElasticNet(50.0), config)
    return {
        "points": int(count),
        "points, MiB": points.nbytes / 2**20,
        "peak before training, MiB": before,
        "peak, MiB": _peak(),
        "coefficients of a batch on all, MiB": 500 * int(count) * 4 / 2**20,
    }


def _stages(folder: str) -> list[dict]:
    """The parts of `SENet.fit`, as `experiments.senet_images` calls it."""
    from experiments import senet_images
    from ncjax.senet import estimators

    config = senet_images.PRESETS["cpu"]
    images = config.images["fashion_mnist"]
    rows: list[dict] = []

    def timed(name: str, call: Callable) -> Callable:
        def measured(*arguments: Any, **settings: Any) -> Any:
            wall, processor = time.perf_counter(), time.process_time()
            found = call(*arguments, **settings)
            row = {
                "stage": name,
                "seconds": time.perf_counter() - wall,
                "processor, s": time.process_time() - processor,
                "peak so far, GiB": _peak() / 2**10,
            }
            rows.append(row)
            return found

        return measured

    x, _ = timed("features", senet_images.features)("fashion_mnist", images, Path(folder))
    parts = ("train", "largest_coefficients", "graph_of", "leading_eigenvectors")
    for name in (*parts, "spectral_clusters"):
        setattr(estimators, name, timed(name, getattr(estimators, name)))
    net = senet_images.senet(images, config, 2000, 0)
    timed("all of fit", net.fit)(x)
    return rows


def _peak() -> float:
    """Of this process's memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(int(sys.argv[2]), *sys.argv[3:])))
    else:
        tyro.cli(main)
