"""The networks of `bench_training` in PyTorch, and its accumulators of collapse."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.curvature_networks import peer
from ncjax.training import TrainConfig


def device() -> Any:
    """Where torch computes: on the GPU if jax does."""
    return peer("torch").device("cuda" if jax.default_backend() == "gpu" else "cpu")


def network(name: str, width: int, num_classes: int = 10) -> Any:
    """The same layers as `ncjax.models` builds, without the bias that normalisation takes away."""
    nn = peer("torch").nn

    def dense(inputs: int, width: int) -> list:
        return [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]

    def conv(inputs: int, width: int) -> list:
        return [nn.Conv2d(inputs, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]

    if name == "mlp":
        layers = [dense(784, 512), dense(512, 512), dense(512, 512)]
        return nn.Sequential(nn.Flatten(), *itertools.chain(*layers), nn.Linear(512, num_classes))
    if name == "cnn":
        return nn.Sequential(
            *conv(1, width),
            nn.MaxPool2d(2),
            *conv(width, 2 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            *dense(49 * 2 * width, 128),
            nn.Linear(128, num_classes),
        )
    return _resnet18(width, num_classes)


def _resnet18(width: int, num_classes: int) -> Any:
    torch = peer("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs: int, channels: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inputs, channels, 3, stride, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
                nn.BatchNorm2d(channels),
            )
            self.shortcut = nn.Sequential()
            if stride > 1 or inputs != channels:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.shortcut(x))

    layers = [nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(4):
        for block in range(2):
            layers.append(Block(inputs, width * 2**stage, 2 if stage and not block else 1))
            inputs = width * 2**stage
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)
    )


def trainer(
    config: TrainConfig, images: np.ndarray, labels: np.ndarray, compiled: str | None
) -> Callable[[int], float]:
    """A function that makes so many steps of SGD with momentum and returns the last loss.

    Args:
        config: network, width, batch size and precision ("bfloat16" by autocast).
        images: what the network sees, `[N, H, W, C]`.
        labels: integers, `[N]`.
        compiled: mode of `torch.compile`; eager if None.
    """
    torch, place = peer("torch"), device()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as jax does on a GPU
    torch.backends.cudnn.benchmark = True
    model = network(config.network, config.width).to(place)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(place)
    if config.network != "mlp":
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    y = torch.from_numpy(labels.astype(np.int64)).to(place)
    model.train()
    forward = torch.compile(model, mode=compiled) if compiled else model
    settings = {"momentum": 0.9, "weight_decay": config.weight_decay, "fused": True}
    optimizer = torch.optim.SGD(model.parameters(), config.learning_rate, **settings)
    half = config.dtype == "bfloat16"

    def steps(count: int) -> float:
        for _ in range(count):
            rows = torch.randint(len(x), (config.batch_size,), device=place)
            optimizer.zero_grad(set_to_none=True)
            torch.compiler.cudagraph_mark_step_begin()
            with torch.autocast(place.type, torch.bfloat16, enabled=half):
                loss = torch.nn.functional.cross_entropy(forward(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return steps


def accumulators(features: np.ndarray, labels: np.ndarray, batch_size: int = 1000) -> Any:
    """Means in a first pass, within-class covariance in a second, then NC1 by a pseudo-inverse.

    The way of accumulating of the PyTorch packages for collapse: all batches twice, one index-add a
    batch for the means, one product a batch for the covariance.
    """
    torch, place = peer("torch"), device()
    h, y = torch.from_numpy(features).to(place), torch.from_numpy(labels.astype(np.int64)).to(place)
    K, d = int(labels.max()) + 1, features.shape[1]

    def measure() -> float:
        total, counts = torch.zeros(K, d, device=place), torch.zeros(K, device=place)
        for start in range(0, len(h), batch_size):
            part, of = h[start : start + batch_size], y[start : start + batch_size]
            total.index_add_(0, of, part)
            counts += torch.bincount(of, minlength=K)
        means = total / counts[:, None]
        within = torch.zeros(d, d, device=place)
        for start in range(0, len(h), batch_size):
            part = h[start : start + batch_size] - means[y[start : start + batch_size]]
            within += part.T @ part
        centred = means - means.mean(0)
        between = centred.T @ centred / K
        nc1 = torch.trace(within / len(h) @ torch.linalg.pinv(between, hermitian=True)) / K
        return float(nc1)

    return measure
