"""SENet's training against the official step in PyTorch, its memory, and 70,000 points by stage.

    pip install 'ncjax[bench,senet]'
    python -m experiments.benchmarks.bench_senet

* training: digits (1,000 of them, 64 pixels), the official weights, one core each. PyTorch takes
  official steps on the official network (three layers of 1,024) and on ours (two of 256), each
  under a cosine that ends with the time given, and once on the official network under the official
  one, which hardly falls in that time; ours takes so many steps. How near coefficients of 20 points
  then are to the exact ones is measured by the residual of their optimality conditions and by the
  objective; at what each training by PyTorch reaches, the shortest of either side are compared.
* memory: peak of training by two passes, at a fixed block, with the number of points.
* stages: Fashion-MNIST, all 70,000 clustered from training on 1,000: time and peak memory.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.benchmarks.workers import in_process, peak, run

Section = Literal["training", "memory", "stages"]
ALL: tuple[Section, ...] = ("training", "memory", "stages")
NETWORKS = {"3 x 1,024": (1024, 1024, 1024), "2 x 256": (256, 256)}
OFFICIAL, OURS = NETWORKS
GAMMA, LAM = 200.0, 0.9
STEPS = (6, 12, 25, 50, 100, 200, 400)
SECONDS = {OFFICIAL: (25, 50, 100, 200), OURS: (12, 25, 50, 100, 200)}
MEASURES = ("KKT residual", "objective / minimum")


def main(sections: tuple[Section, ...] = ALL, out: Path = Path("runs/bench_senet.json")) -> None:
    """Runs the sections, prints tables of each and writes all rows.

    Args:
        sections: which to run; only training needs torch.
        out: JSON file of the rows and the environment.
    """
    from experiments.benchmarks.curvature_networks import markdown
    from ncjax import runs

    tables = {}
    for section in sections:
        found = {"training": training, "memory": memory, "stages": stages}[section]()
        for name, rows in found.items():
            print(f"\n{name}\n\n{markdown(rows)}", flush=True)
        tables |= found
    environment = {
        "versions": {name: runs.version_of(name) for name in ("jax", "torch", "scikit-learn")},
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    runs.write_atomically(out, json.dumps({"environment": environment, **tables}, indent=1))
    print(f"{environment}; written: {out}")


def training() -> dict[str, list[dict]]:
    """All trainings, and times to the same."""
    ours = [_measured(1, "ncjax", steps) for steps in STEPS]
    peers = [
        _measured(1, "torch", seconds, network)
        for network, budgets in SECONDS.items()
        for seconds in budgets
    ]
    peers.append(_measured(1, "torch", SECONDS[OFFICIAL][-1], OFFICIAL, "official"))
    ratios = [_compared(row, ours, peers) for row in peers]
    return {"ncjax": ours, "torch": peers, "to the same": ratios}


def memory() -> dict[str, list[dict]]:
    """Peak memory by the number of points."""
    return {"memory": [_measured(2, "memory", N) for N in (2000, 20_000)]}


def stages() -> dict[str, list[dict]]:
    """Time and peak memory of the parts of clustering."""
    with tempfile.TemporaryDirectory() as folder:
        found = [*_measured(2, "features", folder), *_measured(2, "stages", folder)]
    return {"stages": found}


_measured = functools.partial(in_process, "experiments.benchmarks.bench_senet")


def _compared(level: dict, ours: list[dict], peers: list[dict]) -> dict:
    """Shortest times to what one training reached, by each measure."""
    found = {"network": level["network"], "schedule": level["schedule"]}
    peers = [row for row in peers if row["network"] == level["network"]]
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


def _torch(seconds: str, network: str, schedule: str = "of the time given") -> dict:
    import torch

    from experiments.benchmarks import senet_torch

    torch.set_num_threads(1)
    points, measure = _digits()
    settings = {"widths": NETWORKS[network], "gamma": GAMMA, "lam": LAM}
    _, _, spent = senet_torch.train(points, 30, **settings)
    total = 100_000 if schedule == "official" else None
    steps = int(float(seconds) / spent * 30)
    found, steps, spent = senet_torch.train(points, steps, total=total, **settings)
    shared = {"network": network, "schedule": schedule, "steps": steps, "processor, s": spent}
    return shared | measure(found)


def _ours(steps: str) -> dict:
    """A training, compiled before."""
    import jax

    from ncjax.senet import ElasticNet, SelfExpressiveNet, TrainConfig, train
    from ncjax.senet.model import coefficients

    points, measure = _digits()
    widths = NETWORKS[OURS]
    model, net = SelfExpressiveNet(widths, widths[-1]), ElasticNet(GAMMA, LAM)
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
    before = peak()
    config = TrainConfig(steps=2, batch_size=500, block=1000, sampled=2, every=2)
    train(SelfExpressiveNet((512, 512), 512), points, ElasticNet(50.0), config)
    return {
        "points": int(count),
        "points, MiB": points.nbytes / 2**20,
        "peak before training, MiB": before,
        "peak, MiB": peak(),
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

    def timed(*arguments: Any, **settings: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        found = call(*arguments, **settings)
        row = {
            "stage": name,
            "seconds": time.perf_counter() - wall,
            "processor, s": time.process_time() - processor,
            "peak so far, GiB": peak() / 2**10,
        }
        rows.append(row)
        return found

    return timed


KINDS = {
    "torch": _torch,
    "ncjax": _ours,
    "memory": _memory,
    "features": _features,
    "stages": _stages,
}

if __name__ == "__main__":
    run(main, KINDS)
