"""The official training step of SENet in PyTorch: a peer in the benchmark.

A step takes 100 queries, embeds all keys anew in one graph, takes coefficients of points on
themselves out after the sum, clips the norm of the gradient to 1e-3, and moves by Adam at 1e-3,
whose rate falls along a cosine from epoch to epoch; the start is the public code's too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Query and key perceptrons, and the offset."""

    def __init__(self, inputs: int, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.query, self.key = (_perceptron(inputs, widths, dim) for _ in range(2))
        self.offset = nn.Parameter(torch.zeros(()))

    def coefficients(self, products: torch.Tensor, dim: int) -> torch.Tensor:
        """Thresholded products over p."""
        return torch.sign(products) * torch.relu(products.abs() - self.offset) / dim


def _perceptron(inputs: int, widths: Sequence[int], dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layer = nn.Linear(inputs, width)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
        inputs = width
    last = nn.Linear(inputs, dim)
    nn.init.xavier_uniform_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last, nn.Tanh())


def train(
    points: np.ndarray,
    steps: int,
    *,
    widths: Sequence[int],
    gamma: float,
    lam: float,
    total: int | None = None,
) -> tuple[np.ndarray, int, float]:
    """Trains for some steps.

    Args:
        points: at unit length, `[N, D]`.
        steps: of 100 points.
        widths: of hidden layers; the last is p too.
        gamma: weight of the residual.
        lam: of the l1 norm.
        total: steps that the cosine is over; as many as are taken if None.

    Returns:
        Coefficients of all points, `[N, N]`, steps, and seconds of processor time.
    """
    torch.manual_seed(0)
    x, p = torch.from_numpy(points), widths[-1]
    net = Net(x.shape[1], widths, p)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    epoch = len(x) // 100
    epochs = -(-(steps if total is None else total) // epoch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    started, taken = time.process_time(), 0
    while taken < steps:
        order = torch.randperm(len(x))
        for start in range(0, epoch * 100, 100):
            _step(net, optimizer, x, order[start : start + 100], p, gamma, lam)
        schedule.step()
        taken += epoch
    spent = time.process_time() - started
    with torch.inference_mode():
        found = net.coefficients(net.query(x) @ net.key(x).T, p).numpy()
    return found, taken, spent


def _step(
    net: Net,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    rows: torch.Tensor,
    p: int,
    gamma: float,
    lam: float,
) -> None:
    batch = x[rows]
    queries, keys = net.query(batch), net.key(x)
    found = net.coefficients(queries @ keys.T, p)
    own = net.coefficients((queries * keys[rows]).sum(1, keepdim=True), p)
    rest = batch - (found @ x - own * batch)

    def cost(c: torch.Tensor) -> torch.Tensor:
        return lam * c.abs().sum() + (1 - lam) / 2 * c.square().sum()

    loss = (gamma / 2 * rest.square().sum() + cost(found) - cost(own)) / len(batch)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    optimizer.step()
