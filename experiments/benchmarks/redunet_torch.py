"""ReduNet in PyTorch, as well as torch allows: the peer of `bench_redunet`.

The same algorithm as `ncjax.redunet`: half the frequencies of a real transform with their weights,
batched Cholesky factors, all classes and frequencies in one product. Factors for small classes
(Woodbury) are ours and not in the official code, so it runs with them and without. `by_loops` reads
what the official code computes, in its order: a unitary transform with all frequencies, an inverse
a class and frequency in a Python loop, frequencies last, and Delta R of what each layer gives out.
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


def by_loops(
    features: np.ndarray,
    labels: np.ndarray,
    num_layers: int,
    *,
    eps: float,
    step: float,
    sharpness: float,
    logged: bool,
) -> float:
    """Builds a network as the official code does; Delta R behind its last layer, or nan.

    Args:
        features: `[N, d]`, or `[N, ..., C]`.
        labels: class indices.
        num_layers: L.
        eps: precision.
        step: eta.
        sharpness: lambda.
        logged: whether Delta R is taken behind each layer.
    """
    z = torch.from_numpy(features)
    z = z / z.flatten(1).norm(dim=1).view(-1, *[1] * (z.ndim - 1))
    axes = tuple(range(1, z.ndim - 1))
    values = torch.fft.fftn(z, dim=axes, norm="ortho").flatten(1, -2).mT if axes else z[..., None]
    y = torch.from_numpy(labels)
    groups = [y == k for k in range(int(y.max()) + 1)]
    shares = torch.stack([group.float().mean() for group in groups])[:, None, None, None]
    reduction = float("nan")
    for _ in range(num_layers):
        expansion = _loop_operator(values, eps)
        compression = torch.stack([_loop_operator(values[group], eps) for group in groups])
        compressed = torch.stack([_loop_product(matrix, values) for matrix in compression])
        norms = compressed.flatten(2).norm(dim=2).clamp_min(1e-8)
        assigned = torch.softmax(-sharpness * norms, 0)[..., None, None]
        pulled = (shares * compressed * assigned).sum(0)
        values = values + step * (_loop_product(expansion, values) - pulled)
        values = values / values.flatten(1).norm(dim=1)[:, None, None]
        if logged:
            parts = torch.stack([_loop_rate(values[group], eps) for group in groups])
            reduction = float(_loop_rate(values, eps) - shares.flatten() @ parts)
    return reduction


def _loop_matrices(values: Any, eps: float) -> tuple[Any, float]:
    """I + alpha sum v v^H, `[C, C, T]`, and alpha; of `[N, C, T]`."""
    alpha = values.shape[1] / (len(values) * eps**2)
    covariance = torch.einsum("nit,njt->ijt", values, values.conj())
    return torch.eye(values.shape[1])[..., None] + alpha * covariance, alpha


def _loop_operator(values: Any, eps: float) -> Any:
    matrices, alpha = _loop_matrices(values, eps)
    found = torch.empty_like(matrices)
    for t in range(matrices.shape[-1]):
        found[..., t] = alpha * torch.linalg.inv(matrices[..., t])
    return found


def _loop_product(matrix: Any, values: Any) -> Any:
    return torch.einsum("ijt,njt->nit", matrix, values)


def _loop_rate(values: Any, eps: float) -> Any:
    matrices, _ = _loop_matrices(values, eps)
    return torch.linalg.slogdet(matrices.movedim(-1, 0)).logabsdet.mean() / 2
