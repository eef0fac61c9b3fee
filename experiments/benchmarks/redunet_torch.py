"""ReduNet in PyTorch, as well as torch allows: the peer of `bench_redunet`.

The same algorithm as `ncjax.redunet`: half the frequencies of a real transform with their weights,
batched Cholesky factors, all classes and frequencies in one product. Factors for small classes
(Woodbury) are ours and not in the official code, so it runs with them and without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def spectra(features: np.ndarray) -> tuple[Any, Any]:
    """Normalised values `[F, N, C]` and weights of squares `[F]`, of `[N, ..., C]`."""
    z = torch.from_numpy(features)
    axes = tuple(range(1, z.ndim - 1))
    if not axes:
        values, weights = z[None], torch.ones(1)
    else:
        found = torch.fft.rfftn(z, dim=axes)
        size, half = int(np.prod(z.shape[1:-1])), found.shape[-2]
        counted = torch.full((half,), 2.0)
        counted[0] = 1
        if z.shape[-2] % 2 == 0:
            counted[-1] = 1
        weights = counted.expand(found.shape[1:-1]).reshape(-1) / size
        values = found.reshape(len(z), -1, z.shape[-1]).transpose(0, 1).contiguous()
    return _normalised(values, weights), weights


def construct(
    values: Any,
    weights: Any,
    labels: np.ndarray,
    num_layers: int,
    *,
    eps: float,
    step: float,
    sharpness: float,
    factored: bool,
) -> tuple[Any, list]:
    """Builds a network: features behind it, and (E, C or P, alpha, Delta R) of each layer."""
    _, N, C = values.shape
    K = int(labels.max()) + 1
    groups = [torch.from_numpy(np.flatnonzero(labels == k)) for k in range(K)]
    counts = torch.tensor([len(group) for group in groups], dtype=torch.float32)
    alphas, shares = C / (counts * eps**2), counts / N
    layers = []
    for _ in range(num_layers):
        expansion, root = _inverse(values.mT @ values.conj(), C / (N * eps**2))
        rate = _rate(root, weights)
        compression, compressed = [], []
        for k, group in enumerate(groups):
            own, alpha = values[:, group], alphas[k].item()
            if factored:
                matrix, root = _factor(own, alpha)
                found = values - (values @ matrix.mT) @ matrix.conj()
            else:
                matrix, root = _inverse(own.mT @ own.conj(), alpha, scaled=False)
                found = values @ matrix.mT
            compression.append(matrix)
            compressed.append(found.mul_(alpha))
            rate = rate - shares[k] * _rate(root, weights)
        norms = torch.stack([_squares(one, weights) for one in compressed]).sqrt()
        pulls = shares[:, None] * torch.softmax(-sharpness * norms.clamp_min(1e-8), 0)
        moved = values + step * expansion_of(values, expansion)
        for weight, one in zip(pulls, compressed, strict=True):
            moved -= one.mul_(step * weight[None, :, None])
        values = _normalised(moved, weights)
        layers.append((expansion, compression, alphas, float(rate)))
    return values, layers


def expansion_of(values: Any, expansion: Any) -> Any:
    """E z."""
    return values @ expansion.mT


def _rate(root: Any, weights: Any) -> Any:
    logs = torch.diagonal(root, dim1=-2, dim2=-1).real.log().sum(-1)
    return logs @ weights / weights.sum()


def _inverse(covariance: Any, alpha: float, *, scaled: bool = True) -> tuple[Any, Any]:
    root = torch.linalg.cholesky(covariance.mul_(alpha).add_(torch.eye(covariance.shape[-1])))
    inverse = torch.cholesky_inverse(root)
    return (inverse.mul_(alpha) if scaled else inverse), root


def _factor(own: Any, alpha: float) -> tuple[Any, Any]:
    products = (own.conj() @ own.mT).mul_(alpha).add_(torch.eye(own.shape[1]))
    root = torch.linalg.cholesky(products)
    solved = torch.linalg.solve_triangular(root, own.conj().resolve_conj(), upper=False)
    return solved.mul_(alpha**0.5), root


def _squares(values: Any, weights: Any) -> Any:
    real = torch.view_as_real(values) if values.is_complex() else values[..., None]
    return weights @ torch.linalg.vector_norm(real, dim=(2, 3)).square()


def _normalised(values: Any, weights: Any) -> Any:
    return values / _squares(values, weights).sqrt().clamp_min(1e-8)[None, :, None]
