"""Constructing ReduNets against PyTorch, and what their cost grows with.

    pip install 'ncjax[bench]' mcr2
    python -m experiments.benchmarks.bench_redunet

Each tool constructs each network in a process of its own, held to one core or to two; compilation
and first calls are apart, and of three further calls the shortest counts. The three networks are
those of the official code that have been timed (torch 2.13, one thread of an EPYC): 784 dimensions,
1,000 samples, 5 layers in 4.3 to 4.5 s of processor time; 35 channels of 28 x 28, 100 samples, 5
layers in 20 s; 20 channels of 200 positions, 100 samples, 2 layers in 0.86 s. So that machines need
not be compared, a reading of the official loops runs beside ("official loops"; its transform is
unitary, as theirs, so that its Delta R is another one). Data are Gaussian around class means: the
cost does not depend on them.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.benchmarks.workers import cores_held, in_process, peak, run

Tool = Literal["ncjax", "torch, factors", "torch, dense", "torch, official loops"]
TOOLS: tuple[Tool, ...] = ("ncjax", "torch, factors", "torch, dense", "torch, official loops")
CASES: dict[str, tuple[tuple[int, ...], int, bool]] = {
    "vectors: 1000 x 784": ((1000, 784), 5, True),
    "images: 100 x 28 x 28, 35 channels": ((100, 28, 28, 35), 5, True),
    "signals: 100 x 200, 20 channels": ((100, 200, 20), 2, False),
}
"""Shape, layers, and whether the official code logged Delta R when timed; the others always do."""
CLASSES = 10
CONFIG = {"eps": 0.1**0.5, "step": 0.5, "sharpness": 500.0}
GROWTH = {
    "base": {},
    "2 x samples": {"N": 2},
    "2 x classes": {"K": 2},
    "2 x frequencies": {"T": 2},
    "2 x channels": {"C": 2},
}
"""Of signals with 400 samples, 4 classes, 64 positions and 24 channels."""


def main(out: Path = Path("runs/bench_redunet.json")) -> None:
    """Runs everything, prints tables and writes all rows.

    Args:
        out: JSON file of the rows and the environment.
    """
    from experiments.benchmarks.curvature_networks import markdown
    from ncjax import runs

    measured = functools.partial(in_process, "experiments.benchmarks.bench_redunet")
    rows = []
    for case in CASES:
        for cores in (1, 2):
            found = [measured(cores, "construct", case, tool) for tool in TOOLS]
            for row in found:
                row["ncjax / this, processor time"] = row["processor, s"] / found[0]["processor, s"]
                row["ncjax / this, time"] = row["seconds"] / found[0]["seconds"]
            rows += found
        print(markdown(rows[-2 * len(TOOLS) :]), flush=True)
    growth = [measured(1, "grow", name) for name in GROWTH]
    for row in growth:
        row["time / base"] = row["processor, ms a layer"] / growth[0]["processor, ms a layer"]
        row["operations / base"] = row["operations"] / growth[0]["operations"]
    print(markdown(growth), flush=True)
    losses = [measured(1, "loss", K, tool) for K in (10, 100) for tool in ("ncjax", "mcr2")]
    print(markdown(losses), flush=True)
    memory = [measured(2, "memory", "fashion_mnist")]
    print(markdown(memory), flush=True)
    environment = {
        "versions": {name: runs.version_of(name) for name in ("jax", "torch", "mcr2")},
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    tables = {"networks": rows, "growth": growth, "losses": losses, "memory": memory}
    content = {"environment": environment, **tables}
    runs.write_atomically(out, json.dumps(content, indent=1))
    print(f"{environment}; written: {out}")


def _construct(case: str, tool: str) -> dict:
    shape, num_layers, logged = CASES[case]
    first, seconds, processor, reduction = _constructing(
        tool, shape, CLASSES, num_layers, logged=logged
    )
    return {
        "network": case,
        "cores": len(cores_held()),
        "tool": tool,
        "first call, s": first,
        "seconds": seconds,
        "processor, s": processor,
        "last Delta R": reduction,
    }


def _grow(name: str) -> dict:
    factors = {"N": 1, "K": 1, "T": 1, "C": 1} | GROWTH[name]
    N, K, T, C = (n * factors[key] for key, n in {"N": 400, "K": 4, "T": 64, "C": 24}.items())
    _, _, processor, _ = _constructing("ncjax", (N, T, C), K, 10)
    return {
        "signals": name,
        "processor, ms a layer": 100 * processor,
        "operations": operations(N, K, T // 2 + 1, C),
    }


def _memory(name: str) -> dict:
    """Peak memory of 50 layers of 1,000 images a class, by the process and by the formula."""
    from ncjax import data
    from ncjax.redunet import ReduNet, to_spectra
    from ncjax.redunet.construction import Ending, memory_needed

    dataset = data.load(name).corrupt(data.Corruption(per_class=1000))
    x, test = (
        np.asarray(images, np.float32).reshape(len(images), -1) / 255
        for images in (dataset.images, dataset.test_images)
    )
    started = time.perf_counter()
    net = ReduNet(50).fit(x, dataset.labels)
    return {
        "network": "Fashion-MNIST, 10,000 x 784, 50 layers",
        "construction, s": time.perf_counter() - started,
        "test accuracy": net.score(test, dataset.test_labels),
        "peak, GiB": peak() / 2**10,
        "formula, GiB": memory_needed(to_spectra(x), np.bincount(dataset.labels), Ending(50))
        / 2**30,
    }


def operations(N: int, K: int, F: int, C: int) -> float:
    """Real multiplications and additions of a layer of complex features, all classes dense.

    Class covariances, K + 1 factors and inverses, and the products E z and C^j z.
    """
    return 8 * F * (N * C**2 + (K + 1) * 2 * C**3 + (K + 1) * N * C**2)


def _data(shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(shape[0]) % classes
    means = rng.normal(size=(classes, *shape[1:]))
    return (means[labels] + rng.normal(size=shape)).astype(np.float32), labels


def _constructing(
    tool: str, shape: tuple, classes: int, num_layers: int, *, logged: bool = True
) -> tuple:
    """First call, shortest further call, its processor time, and the last Delta R."""
    features, labels = _data(shape, classes)
    if tool == "ncjax":
        call = _ours(features, labels, num_layers)
    else:
        call = _torch(tool, features, labels, num_layers, logged=logged)
    times = []
    for _ in range(4):
        wall, processor = time.perf_counter(), time.process_time()
        reduction = call()
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return times[0][0], *min(times[1:]), reduction


def _ours(features: np.ndarray, labels: np.ndarray, num_layers: int) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    from ncjax.redunet import to_spectra
    from ncjax.redunet.construction import Ending, build
    from ncjax.redunet.layers import LayerConfig, normalised

    def call() -> float:
        spectra = normalised(to_spectra(jnp.asarray(features)))
        network = build(spectra, labels, LayerConfig(**CONFIG), Ending(num_layers))
        jax.block_until_ready(network)
        return float(network.monitor.reduction[-1])

    return call


def _torch(
    tool: str, features: np.ndarray, labels: np.ndarray, num_layers: int, *, logged: bool
) -> Callable[[], float]:
    import torch

    from experiments.benchmarks import redunet_torch

    torch.set_num_threads(len(cores_held()))

    @torch.inference_mode()
    def call() -> float:
        if tool == "torch, official loops":
            return redunet_torch.by_loops(features, labels, num_layers, **CONFIG, logged=logged)
        values, weights = redunet_torch.spectra(features)
        factored = tool == "torch, factors"
        _, layers = redunet_torch.construct(
            values, weights, labels, num_layers, **CONFIG, factored=factored
        )
        return layers[-1][-1]

    return call


def _loss(K: str, tool: str) -> dict:
    """Delta R and its gradient, of 2,000 features in 128 dimensions."""
    classes = int(K)
    features, labels = _data((2000, 128), classes)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    if tool == "ncjax":
        import jax

        from ncjax.redunet import rate_reduction

        graded = jax.jit(
            jax.value_and_grad(lambda z: rate_reduction(z, labels, 0.5, num_classes=classes))
        )

        def call() -> float:
            return float(jax.block_until_ready(graded(features))[0])

    else:
        import torch
        from mcr2.primitives.coding_rate import DeltaR

        torch.set_num_threads(len(cores_held()))
        z = torch.from_numpy(features).requires_grad_()
        onehot = torch.nn.functional.one_hot(torch.from_numpy(labels)).float()

        def call() -> float:
            z.grad = None
            value = DeltaR(z, onehot, 0.5)
            value.backward()
            return value.item()

    value, times = call(), []
    for _ in range(5):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return {"classes": classes, "tool": tool, "Delta R": value, "processor, ms": 1e3 * min(times)}


KINDS = {"construct": _construct, "grow": _grow, "loss": _loss, "memory": _memory}

if __name__ == "__main__":
    run(main, KINDS)
