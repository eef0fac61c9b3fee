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
MLP = {"network": "mlp", "widths": (512, 512, 512)}
NETWORKS: dict[str, dict[str, dict]] = {
    "cpu": {
        "MLP 3 x 512": MLP,
        "CNN, width 32": {"network": "cnn", "width": 32},
        "ResNet-18, width 16": {"network": "resnet18", "width": 16},
    },
    "gpu": {
        "ResNet-18, width 64, bfloat16": {"network": "resnet18", "width": 64, "dtype": "bfloat16"},
        "MLP 3 x 512": MLP,
    },
}
STEPS = {"mlp": 100, "cnn": 20, "resnet18": 6}
"""Of a timed call; 20 times as many on a GPU."""
MODES = {"cpu": ("default",), "gpu": ("default", "reduce-overhead")}
"""Of `torch.compile`; "max-autotune" was still searching after four minutes."""
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
        "TFLOP/s of a product in bfloat16": None if jax.default_backend() == "cpu" else peak(),
        "cores": parallel.cores(),
        "versions": {name: runs.version_of(name) for name in ("jax", "flax", "optax", "torch")},
        "date": time.strftime("%Y-%m-%d"),
        "seconds": elapsed(started),
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{environment}; written: {out}")


def images(per_class: int = 1000) -> data.Dataset:
    """Fashion-MNIST, 10,000 of it unless told otherwise, or random images of its shape."""
    try:
        return data.load("fashion_mnist").corrupt(data.Corruption(per_class=per_class))
    except InputError as error:
        print(f"random images: {error}")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10 * per_class, 28, 28, 1)).astype(np.uint8)
    labels = np.arange(10 * per_class, dtype=np.int32) % 10
    return data.Dataset("random", 10, pixels, labels, labels, pixels[:0], labels[:0])


def networks_section() -> list[Row]:
    """Images a second of one training step after another."""
    torch = peer("torch")
    torch.set_num_threads(parallel.cores())
    dataset, rows = images(), []
    for name, settings in NETWORKS[jax.default_backend()].items():
        config = TrainConfig(dataset=dataset.name, weight_decay=5e-4, batch_size=BATCH, **settings)
        rows += [{"network": name, **row} for row in _network(config, dataset)]
    return rows


def _network(config: TrainConfig, dataset: data.Dataset) -> list[Row]:
    backend = jax.default_backend()
    steps = STEPS[config.network] * (1 if backend == "cpu" else 20)
    inputs = np.asarray(dataset.inputs(dataset.images))
    ours, first = advancing(config, dataset, steps)
    calls, firsts = {"ncjax": ours}, {"ncjax": first}
    for mode in (None, *MODES[backend]):
        tool = "torch" + (f".compile, {mode}" if mode else "")
        step = training_torch.trainer(config, inputs, dataset.labels, mode)
        started = time.perf_counter()
        step(1)
        firsts[tool] = elapsed(started)
        calls[tool] = functools.partial(step, steps)
    seconds = shortest(calls, rounds=5)
    work = BATCH * steps * 3 * _operations(config, dataset)
    return [
        {
            "tool": tool,
            "first call, s": firsts[tool],
            "images a second": BATCH * steps / seconds[tool],
            "TFLOP/s": work / seconds[tool] / 1e12,
            "ncjax / this": seconds[tool] / seconds["ncjax"],
        }
        for tool in calls
    ]


def _operations(config: TrainConfig, dataset: data.Dataset) -> float:
    """Floating-point operations of a forward pass of one image; a step takes three times that."""
    model, image = config.model(dataset.num_classes), dataset.inputs(dataset.images[:1])
    with jax.default_device(jax.devices("cpu")[0]):  # where XLA counts before it compiles
        init = functools.partial(model.init, jax.random.key(0), train=False)
        variables = jax.eval_shape(init, image)
        forward = jax.jit(functools.partial(model.apply, train=False))
        return forward.lower(variables, image).cost_analysis()["flops"]


def peak() -> float:
    """Operations a second, 1e12, of a large matrix product in bfloat16."""
    size = 8192
    x = jax.random.normal(jax.random.key(0), (size, size), jax.numpy.bfloat16)
    product = jax.jit(lambda x: x @ x)
    return 2 * size**3 / shortest({"": lambda: product(x)}, rounds=10)[""] / 1e12


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
