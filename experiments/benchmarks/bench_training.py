"""Training and measuring against PyTorch: images a second, ensembles, collapse metrics.

    pip install 'ncjax[bench]'
    python -m experiments.benchmarks.bench_training

The same layers, batches of 128 and Fashion-MNIST images (random ones where it is not prepared), SGD
with momentum, float32. torch runs channels-last on both cores, eager and by `torch.compile`; the
ratio is to the faster. Compilation is apart. Ratios above 1: ncjax is ahead.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from experiments.benchmarks import training_torch
from experiments.benchmarks.curvature_networks import Row, elapsed, markdown, peer, shortest
from ncjax import data, metrics, parallel, runs
from ncjax.checks import InputError
from ncjax.training import Engine, TrainConfig

Section = Literal["networks", "ensemble", "metrics"]
ALL: tuple[Section, ...] = ("networks", "ensemble", "metrics")
NETWORKS = {
    "mlp": {"network": "mlp", "widths": (512, 512, 512)},
    "cnn": {"network": "cnn", "width": 32},
    "resnet18": {"network": "resnet18", "width": 16},
}
STEPS = {"mlp": 100, "cnn": 20, "resnet18": 6}
"""Of a timed call."""
BATCH = 128


def main(sections: tuple[Section, ...] = ALL, out: Path = Path("runs/bench_training.json")) -> None:
    """Runs the sections, prints a table of each and writes all rows.

    Args:
        sections: which to run; "ensemble" needs no torch.
        out: JSON file of the rows and the environment.
    """
    started = time.perf_counter()
    rows: list[Row] = []
    for section in sections:
        load = os.getloadavg()[0]
        print(f"\n## {section} (load of the machine at the start: {load:.1f})\n", flush=True)
        found = SECTIONS[section]()
        rows += [{"section": section, "load": load, **row} for row in found]
        print(markdown(found), flush=True)
    environment = {
        "device": jax.devices()[0].device_kind,
        "cores": parallel.cores(),
        "versions": {name: runs.version_of(name) for name in ("jax", "flax", "optax", "torch")},
        "date": time.strftime("%Y-%m-%d"),
        "seconds": elapsed(started),
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{environment}; written: {out}")


def images() -> data.Dataset:
    """Fashion-MNIST, 10,000 of it, or random images of its shape."""
    try:
        return data.load("fashion_mnist").corrupt(data.Corruption(per_class=1000))
    except InputError as error:
        print(f"random images: {error}")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10_000, 28, 28, 1)).astype(np.uint8)
    labels = np.arange(10_000, dtype=np.int32) % 10
    return data.Dataset("random", 10, pixels, labels, labels, pixels[:0], labels[:0])


def networks_section() -> list[Row]:
    """Images a second of one training step after another, three networks."""
    torch = peer("torch")
    torch.set_num_threads(parallel.cores())
    dataset, rows = images(), []
    for name, settings in NETWORKS.items():
        config = TrainConfig(dataset=dataset.name, weight_decay=5e-4, batch_size=BATCH, **settings)
        rows += _network(name, config, dataset)
    return rows


def _network(name: str, config: TrainConfig, dataset: data.Dataset) -> list[Row]:
    steps, inputs = STEPS[name], np.asarray(dataset.inputs(dataset.images))
    ours, first = advancing(config, dataset, steps)
    calls, firsts = {"ncjax": ours}, {"ncjax": first}
    for tool, compiled in (("torch", False), ("torch.compile", True)):
        step = training_torch.trainer(name, inputs, dataset.labels, BATCH, compiled=compiled)
        started = time.perf_counter()
        step(1)
        firsts[tool] = elapsed(started)
        calls[tool] = functools.partial(step, steps)
    seconds = shortest(calls, rounds=5)
    return [
        {
            "network": name,
            "tool": tool,
            "first call, s": firsts[tool],
            "images a second": BATCH * steps / seconds[tool],
            "ncjax / this": seconds[tool] / seconds["ncjax"],
        }
        for tool in calls
    ]


def advancing(
    configs: TrainConfig | list[TrainConfig], dataset: data.Dataset, steps: int
) -> tuple[Callable[[], float], float]:
    """A call of some steps, each going on from the last, and the seconds of the first."""
    engine = Engine(configs, dataset, "shard_map", jax.devices()[:1])
    state = engine.initial()

    def call() -> float:
        nonlocal state
        state, loss = engine.advance(state, steps)
        return loss

    started = time.perf_counter()
    before = call()
    first = elapsed(started)
    for _ in range(3):
        after = call()
    if not after < before:
        raise RuntimeError(f"what is timed does not learn: loss {before} to {after}")
    return call, first


def ensemble_section() -> list[Row]:
    """Eight MLPs side by side against one after the other."""
    dataset, rows = images(), []
    for widths in ((64, 64), (128, 128, 128), (512, 512, 512)):
        config = TrainConfig(dataset="fashion_mnist", widths=widths, batch_size=BATCH)
        configs = [dataclasses.replace(config, seed=seed) for seed in range(8)]
        together, first = advancing(configs, dataset, 50)
        alone, _ = advancing(config, dataset, 50)
        seconds = shortest({"together": together, "alone": alone}, rounds=5)
        rows.append(
            {
                "widths": " ".join(map(str, widths)),
                "8 together, s": seconds["together"],
                "8 in turn, s": 8 * seconds["alone"],
                "in turn / together": 8 * seconds["alone"] / seconds["together"],
                "first call, s": first,
            }
        )
    return rows


def metrics_section() -> list[Row]:
    """NC1 to NC3 of 60,000 features of 512 dimensions, from the features on."""
    torch = peer("torch")
    torch.set_num_threads(parallel.cores())
    rng = np.random.default_rng(0)
    labels = np.arange(60_000) % 10
    features = (rng.normal(size=(10, 512))[labels] + rng.normal(size=(60_000, 512))).astype("f4")
    W, b = rng.normal(size=(10, 512)).astype("f4"), np.zeros(10, "f4")
    h = jax.device_put(features)

    @jax.jit
    def ours(h: jax.Array) -> jax.Array:
        moments = metrics.class_moments(h, labels, 10, scatter=False)
        span = metrics.mean_span(metrics.centred_means(moments))
        variance = span.squared_coordinates(h, labels, moments).mean(0)
        known = dataclasses.replace(span, variance=variance)
        return metrics.collapse(moments, W, b, span=known).nc1_pinv

    read = jax.jit(lambda h: h.sum())
    theirs = training_torch.accumulators(features, labels)
    agree = abs(float(ours(h)) / theirs() - 1)
    seconds = shortest({"ncjax": lambda: ours(h), "read": lambda: read(h), "torch": theirs}, 7)
    return [
        {
            "what": name,
            "ms": 1e3 * value,
            "over one read": value / seconds["read"],
            "this / ncjax": value / seconds["ncjax"],
            "NC1 differs by": agree if name == "torch" else None,
        }
        for name, value in seconds.items()
    ]


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "networks": networks_section,
    "ensemble": ensemble_section,
    "metrics": metrics_section,
}


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
