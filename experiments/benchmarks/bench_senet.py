"""SENet's training against the official step in PyTorch, its memory, and 70,000 points by stage.

    pip install 'ncjax[bench,senet]'
    python -m experiments.benchmarks.bench_senet

* Digits (1,000 of them, 64 pixels), the official network (three layers of 1,024) and weights, one
  core each. Budgets of both double: PyTorch takes official steps for so many seconds of processor
  time, under a cosine that ends with them, and once more under the official one, which hardly falls
  in that time; ours takes so many steps. How near coefficients of 20 points then are to the exact
  ones is measured by the residual of their optimality conditions and by the objective; at what each
  budget of PyTorch reaches, the shortest of either side are compared.
* Peak memory of training by two passes, at a fixed block, with the number of points.
* Fashion-MNIST, all 70,000 clustered from training on 1,000: time and peak memory by stage.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

WIDTHS = (1024, 1024, 1024)
GAMMA, LAM = 200.0, 0.9
STEPS = (12, 25, 50, 100)
SECONDS = (25, 50, 100, 200)
MEASURES = ("KKT residual", "objective / minimum")


def main(out: Path = Path("runs/bench_senet.json")) -> None:
    """Runs everything, prints tables and writes all rows.

    Args:
        out: JSON file of the rows and the environment.
    """
    from experiments.benchmarks.curvature_networks import markdown
    from ncjax import runs

    ours = [_in_process(1, "ncjax", steps) for steps in STEPS]
    peers = [_in_process(1, "torch", seconds) for seconds in SECONDS]
    official = _in_process(1, "torch", SECONDS[-1], "official")
    print(markdown([{"tool": "ncjax", **row} for row in ours]), flush=True)
    print(markdown([{"tool": "torch", **row} for row in [*peers, official]]), flush=True)
    ratios = [_compared(row, ours, [*peers, official]) for row in [*peers, official]]
    print(markdown(ratios), flush=True)
    memory = [_in_process(2, "memory", N) for N in (2000, 20_000)]
    print(markdown(memory), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        stages = [*_in_process(2, "features", folder), *_in_process(2, "stages", folder)]
    print(markdown(stages), flush=True)
    environment = {
        "versions": {name: runs.version_of(name) for name in ("jax", "torch", "scikit-learn")},
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    training = {"ncjax": ours, "torch": [*peers, official], "ratios": ratios}
    tables = {"training": training, "memory": memory, "stages": stages}
    runs.write_atomically(out, json.dumps({"environment": environment, **tables}, indent=1))
    print(f"{environment}; written: {out}")


def _compared(level: dict, ours: list[dict], peers: list[dict]) -> dict:
    """Shortest times to what one training reached, by each measure."""
    found = {"schedule": level["schedule"]}
    for measure in MEASURES:
        times = [
            [row["processor, s"] for row in rows if row[measure] <= level[measure]]
            for rows in (peers, ours)
        ]
        times = [min(reached, default=np.nan) for reached in times]
        found[measure] = level[measure]
        found[f"{measure}: torch, s"], found[f"{measure}: ncjax, s"] = times
        found[f"{measure}: torch / ncjax"] = times[0] / times[1]
    return found


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
    workers = {"torch": _torch, "ncjax": _ours, "memory": _memory}
    workers |= {"features": _features, "stages": _stages}
    return workers[kind](*arguments)


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


def _torch(seconds: str, schedule: str = "of the time given") -> dict:
    import torch

    from experiments.benchmarks import senet_torch

    torch.set_num_threads(1)
    points, measure = _digits()
    settings = {"widths": WIDTHS, "gamma": GAMMA, "lam": LAM}
    _, _, spent = senet_torch.train(points, 30, **settings)
    total = 100_000 if schedule == "official" else None
    steps = int(float(seconds) / spent * 30)
    found, steps, spent = senet_torch.train(points, steps, total=total, **settings)
    return {"schedule": schedule, "steps": steps, "processor, s": spent, **measure(found)}


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
    before = _peak()
    config = TrainConfig(steps=2, batch_size=500, block=1000, sampled=2, every=2)
    train(SelfExpressiveNet((512, 512), 512), points, ElasticNet(50.0), config)
    return {
        "points": int(count),
        "points, MiB": points.nbytes / 2**20,
        "peak before training, MiB": before,
        "peak, MiB": _peak(),
        "coefficients of a batch on all, MiB": 500 * int(count) * 4 / 2**20,
    }


def _features(folder: str) -> list[dict]:
    """Scattering, and its leading directions; what they are is kept in a folder."""
    from experiments import senet_images

    images, rows = senet_images.PRESETS["cpu"].images["fashion_mnist"], []
    _timed(rows, "features", senet_images.features)("fashion_mnist", images, Path(folder))
    return rows


def _stages(folder: str) -> list[dict]:
    """The parts of `SENet.fit`, as `experiments.senet_images` calls it."""
    from experiments import senet_images
    from ncjax.senet import estimators

    config = senet_images.PRESETS["cpu"]
    images, rows = config.images["fashion_mnist"], []
    x, _ = senet_images.features("fashion_mnist", images, Path(folder))
    parts = ("train", "largest_coefficients", "graph_of", "leading_eigenvectors")
    for name in (*parts, "spectral_clusters"):
        setattr(estimators, name, _timed(rows, name, getattr(estimators, name)))
    net = senet_images.senet(images, config, len(x), 1000, 0)
    _timed(rows, "all of fit", net.fit)(x)
    return rows


def _timed(rows: list[dict], name: str, call: Callable) -> Callable:
    """The same function, that adds to rows what it took."""

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


def _peak() -> float:
    """Of this process's memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(int(sys.argv[2]), *sys.argv[3:])))
    else:
        tyro.cli(main)
