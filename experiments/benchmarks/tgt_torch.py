"""A step of teacher-guided training read in PyTorch: the networks and arms of `bench_tgt`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.curvature_networks import peer
from ncjax.training import TrainConfig


def trainer(
    config: TrainConfig,
    sizes: dict[str, int],
    images: np.ndarray,
    labels: np.ndarray,
    compiled: bool,
) -> Callable[[int], float]:
    """A function that makes so many steps and returns the last loss.

    Args:
        config: of the student: arm and settings, batch size, Adam's rate.
        sizes: `student`, `labeler`, `dim` of the latent space, and `width` of the autoencoder, 0
            for principal components.
        images: between 0 and 1, grey, `[N, H, W]` or `[N, H, W, 1]`; 28 x 28 for an autoencoder.
        labels: `[N]`.
        compiled: networks by `torch.compile`; eager if not.
    """
    torch = peer("torch")
    torch.manual_seed(0)
    x = torch.from_numpy(images.reshape(len(images), 1, *images.shape[1:3]))
    y = torch.from_numpy(labels.astype(np.int64))
    student = _mlp(x[0].numel(), [sizes["student"]])
    labeler = _mlp(x[0].numel(), [sizes["labeler"]] * 2).eval().requires_grad_(False)
    encode, decode = _autoencoder(sizes) if sizes["width"] else _principal(x, sizes["dim"])
    if compiled:
        student, labeler, encode, decode = map(torch.compile, (student, labeler, encode, decode))
    optimizer = torch.optim.Adam(student.parameters(), config.learning_rate, fused=True)
    settings = config.tgt

    def divergence(own: Any, said: Any) -> Any:
        log = torch.nn.functional.log_softmax
        T = settings.temperature
        return torch.nn.functional.kl_div(
            log(own / T, 1), log(said / T, 1), reduction="none", log_target=True
        ).sum(1)

    def generated(seeds: Any) -> Any:
        if settings.explore == "prior":
            return decode(torch.randn(len(seeds), sizes["dim"]))
        z = encode(seeds)
        z = z + settings.radius * torch.randn_like(z)
        student.eval()
        for _ in range(settings.steps if settings.explore == "gradient" else 0):
            z = z.detach().requires_grad_()
            made = decode(z)
            (slope,) = torch.autograd.grad(divergence(student(made), labeler(made)).sum(), z)
            z = z + settings.length * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12)
            z = z.clamp(-settings.bound, settings.bound)
        student.train()
        with torch.no_grad():
            return decode(z)

    def steps(count: int) -> float:
        for _ in range(count):
            rows = torch.randint(len(x), (config.batch_size,))
            real = x[rows]
            parts = [real]
            if settings.explore != "none":
                parts.append(generated(real).detach())
            optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for part in parts:  # each normalised by itself
                own = student(part)
                with torch.no_grad():
                    said = labeler(part)
                if part is real:
                    loss = loss + torch.nn.functional.cross_entropy(own, y[rows])
                loss = loss + settings.temperature**2 * divergence(own, said).mean()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return steps


def _mlp(inputs: int, widths: list[int]) -> Any:
    nn = peer("torch").nn
    layers = [nn.Flatten()]
    for width in widths:
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def _autoencoder(sizes: dict[str, int]) -> tuple[Any, Any]:
    """Encoder and decoder of `ncjax.models.Autoencoder`, as they are in inference."""
    nn, width, dim = peer("torch").nn, sizes["width"], sizes["dim"]

    def normalised(layer: Any, channels: int) -> list:
        return [layer, nn.BatchNorm2d(channels), nn.ReLU()]

    encoder = nn.Sequential(
        *normalised(nn.Conv2d(1, width, 3, 2, 1, bias=False), width),
        *normalised(nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), 2 * width),
        nn.Flatten(),
        nn.Linear(49 * 2 * width, dim),
    )
    decoder = nn.Sequential(
        nn.Linear(dim, 49 * 2 * width, bias=False),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        *normalised(nn.Conv2d(2 * width, width, 5, 1, 2, bias=False), width),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(width, 1, 5, 1, 2),
        nn.Sigmoid(),
    )
    return (part.eval().requires_grad_(False) for part in (encoder, decoder))


def _principal(x: Any, dim: int) -> tuple[Callable, Callable]:
    torch = peer("torch")
    flat = x[:5000].flatten(1)
    mean = flat.mean(0)
    _, values, axes = torch.pca_lowrank(flat, dim, center=True)
    deviations = values / len(flat) ** 0.5

    def encode(x: Any) -> Any:
        return (x.flatten(1) - mean) @ axes / deviations

    def decode(z: Any) -> Any:
        return ((z * deviations) @ axes.T + mean).clamp(0, 1).view(-1, *x.shape[1:])

    return encode, decode
