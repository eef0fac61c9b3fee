"""Convolutional normalisation against conv + BatchNorm, and against the official layer in torch.

    pip install 'ncjax[bench]'
    python -m experiments.benchmarks.bench_convnorm

One layer of 3x3 kernels with its filter on top, a batch of 128 images, float32, forward and with
the gradients of inputs, kernel and filter; on one core and on two, each tool in a process of its
own, torch with as many threads. Compilation is apart. Ratios to conv + BN of the same tool, and of
torch's ConvNorm to ours: above 1, ncjax is ahead.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import convnorm_torch
from experiments.benchmarks.curvature_networks import Row, elapsed, markdown, peer, shortest
from experiments.benchmarks.workers import in_process, run
from ncjax import models, parallel, runs
from ncjax.models.normalisation import BatchNorm
from ncjax.models.preconditioned import PATHS

MODULE = "experiments.benchmarks.bench_convnorm"
SHAPES = ((28, 64, 64), (28, 1, 64), (14, 128, 128), (7, 256, 256))
"""Side of the images, channels in and out."""
BATCH = 128


class ConvBatchNorm(nn.Module):
    """A 3x3 convolution, as fast as this library has it, and batch normalisation."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images, channels last."""
        settings = {"use_bias": False, "padding": 1}
        if models.fastest() == "product":
            settings["conv_general_dilated"] = models.convolve
        return BatchNorm(use_running_average=False)(nn.Conv(self.features, (3, 3), **settings)(x))


def main(out: Path = Path("runs/bench_convnorm.json")) -> None:
    """Measures all shapes, prints a table and writes all rows.

    Args:
        out: JSON file of the rows and the environment.
    """
    started = time.perf_counter()
    rows = []
    for cores in sorted({1, parallel.cores()}):
        for shape in SHAPES:
            rows.append(_row(cores, shape))
            print(markdown(rows[-1:]), flush=True)
    print(markdown(rows))
    environment = {
        "device": jax.devices()[0].device_kind,
        "versions": {name: runs.version_of(name) for name in ("jax", "torch")},
        "date": time.strftime("%Y-%m-%d"),
        "seconds": elapsed(started),
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{environment}; written: {out}")


def _row(cores: int, shape: tuple[int, int, int]) -> Row:
    ours = in_process(MODULE, cores, "ncjax", *shape)
    theirs = in_process(MODULE, cores, "torch", cores, *shape)
    row: Row = {"cores": cores, "side, in, out": ", ".join(map(str, shape))}
    for way in ("forward", "both"):
        best = min(ours[f"{path}, {way}"] for path in PATHS)
        for name, seconds in ours.items():
            if name.endswith(way):
                row[f"{name}, ms"] = 1e3 * seconds
        row[f"over conv + BN, {way}"] = best / ours[f"conv + BN, {way}"]
        row[f"torch, over its conv + BN, {way}"] = (
            theirs[f"ConvNorm, {way}"] / theirs[f"conv + BN, {way}"]
        )
        row[f"torch / ncjax, {way}"] = theirs[f"ConvNorm, {way}"] / best
    return row


def _inputs(side: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, side, side, inputs)).astype(np.float32)
    kernel = (rng.normal(size=(3, 3, inputs, outputs)) / np.sqrt(9 * inputs)).astype(np.float32)
    return x, kernel, rng.normal(size=(3, 3, outputs)).astype(np.float32)


def by_ncjax(side: str, inputs: str, outputs: str) -> dict[str, float]:
    """Seconds of each layer and path."""
    x, kernel, filters = map(jnp.asarray, _inputs(int(side), int(inputs), int(outputs)))
    layers: dict[str, Any] = {"conv + BN": ConvBatchNorm(int(outputs))}
    for path in PATHS:
        layers[path] = models.ConvNorm(
            int(outputs), 3, algorithm=path, convolution=models.fastest()
        )
    target = jax.random.normal(jax.random.key(1), (*x.shape[:3], int(outputs)))
    calls = {}
    for name, layer in layers.items():
        variables = layer.init(jax.random.key(0), x)
        if name != "conv + BN":
            variables["params"] |= {"kernel": kernel, "filter": filters}
        mutable = ["batch_stats"] if "batch_stats" in variables else []

        def output(variables: Any, x: jax.Array, layer: Any = layer, kept: Any = mutable) -> Any:
            return layer.apply(variables, x, mutable=kept)[0]

        def value(variables: Any, x: jax.Array, output: Any = output) -> jax.Array:
            return (output(variables, x) * target).mean()

        forward, both = jax.jit(output), jax.jit(jax.grad(value, (0, 1)))
        calls[f"{name}, forward"] = lambda f=forward, v=variables: f(v, x)
        calls[f"{name}, both"] = lambda f=both, v=variables: f(v, x)
    return shortest(calls, rounds=5)


def by_torch(cores: str, side: str, inputs: str, outputs: str) -> dict[str, float]:
    """Seconds of each layer."""
    peer("torch").set_num_threads(int(cores))
    x, kernel, filters = _inputs(int(side), int(inputs), int(outputs))
    return shortest(convnorm_torch.layers(kernel, filters, x), rounds=5)


if __name__ == "__main__":
    run(main, {"ncjax": by_ncjax, "torch": by_torch})
