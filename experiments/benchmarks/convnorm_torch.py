"""The official layer of convolutional normalisation, read in today's torch, and its competitor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.curvature_networks import peer


def layers(kernel: np.ndarray, filters: np.ndarray, x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Forward passes, and forward with backward ones, of conv + BN and of ConvNorm.

    As the official code has it: a full convolution, transforms of it and of the kernel, their
    product, the way back, cropping, a depthwise filter. With `torch.fft` for the transforms that
    torch no longer has; channels first, which it is faster in.

    Args:
        kernel: `[k, k, I, O]`.
        filters: `[k, k, O]`.
        x: `[N, H, W, I]`.
    """
    torch = peer("torch")
    F = torch.nn.functional
    k, _, _, outputs = kernel.shape
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    depthwise = torch.tensor(filters.transpose(2, 0, 1)[:, None].copy(), requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)
    scale, shift = (torch.tensor(v, requires_grad=True) for v in (np.ones(outputs, "f4"),) * 2)
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    target = torch.randn(len(x), outputs, *x.shape[1:3])

    def batch_norm() -> Any:
        y = F.conv2d(images, weight, padding=k // 2)
        return F.batch_norm(y, None, None, scale, shift, training=True)

    def conv_norm() -> Any:
        full = F.conv2d(images, weight, padding=k - 1)
        grid = full.shape[-2:]
        with torch.no_grad():
            spectrum = torch.fft.rfft2(weight, s=grid).abs().square().sum(1)
            factor = torch.exp(-0.5 * torch.log(spectrum))
        y = torch.fft.irfft2(torch.fft.rfft2(full) * factor, s=grid)
        cut = k - 1 - k // 2
        y = y[:, :, cut:-cut, cut:-cut]
        return F.conv2d(y, depthwise, bias, padding=k // 2, groups=outputs)

    def both_ways(layer: Callable[[], Any]) -> Callable[[], float]:
        def call() -> float:
            for leaf in (weight, depthwise, bias, scale, shift, images):
                leaf.grad = None
            value = (layer() * target).mean()
            value.backward()
            return float(value.detach())

        return call

    def forward(layer: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            with torch.no_grad():
                return layer()

        return call

    return {
        "conv + BN, forward": forward(batch_norm),
        "conv + BN, both": both_ways(batch_norm),
        "ConvNorm, forward": forward(conv_norm),
        "ConvNorm, both": both_ways(conv_norm),
    }
