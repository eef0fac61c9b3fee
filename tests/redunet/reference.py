"""Rate reduction written out densely, over all circular shifts of the samples."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.redunet import to_spectra
from ncjax.redunet.layers import normalised

SHAPES = {"vectors": (9, 2), "few vectors": (7, 9), "signals": (6, 5, 3), "images": (5, 4, 3, 2)}
ALL_SHAPES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def case(shape: tuple, fft_norm: str = "backward") -> tuple:
    """Normalised spectra, labels of three unequal classes, and the places of their samples."""
    features = np.random.default_rng(0).normal(size=shape)
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 0, 0][: shape[0]])
    counts = np.bincount(labels)
    places = np.full((3, counts.max()), len(labels), np.int32)
    for k in range(3):
        places[k, : counts[k]] = np.flatnonzero(labels == k)
    return normalised(to_spectra(features, fft_norm)), labels, jnp.asarray(places)


def circulant(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All circular shifts of all samples as vectors, and their labels."""
    positions = features.shape[1:-1]
    axes = tuple(range(len(positions)))
    shifts = list(itertools.product(*map(range, positions)))
    rows = [np.roll(x, shift, axes).ravel() for x in features for shift in shifts]
    return np.array(rows), np.repeat(labels, len(shifts))


def dense_rates(rows: np.ndarray, labels: np.ndarray, eps: float) -> tuple[float, float]:
    """R and R_c of vectors."""

    def rate(z: np.ndarray) -> float:
        n, d = z.shape
        return np.linalg.slogdet(np.eye(d) + d / (n * eps**2) * z.T @ z)[1] / 2

    shares = {k: (labels == k).mean() for k in np.unique(labels)}
    return rate(rows), sum(share * rate(rows[labels == k]) for k, share in shares.items())


def dense_layer(
    z: np.ndarray, rows: np.ndarray, labels: np.ndarray, config: dict[str, float]
) -> np.ndarray:
    """A layer built from `rows` with their labels, applied to the vectors `z`."""
    eps, eta, sharpness = config["eps"], config["step"], config["sharpness"]
    n, d = rows.shape
    inverse = {None: d / (n * eps**2) * np.linalg.inv(np.eye(d) + d / (n * eps**2) * rows.T @ rows)}
    for k in np.unique(labels):
        own = rows[labels == k]
        alpha = d / (len(own) * eps**2)
        inverse[k] = alpha * np.linalg.inv(np.eye(d) + alpha * own.T @ own)
    expansion = inverse.pop(None)
    compressed = {k: z @ C.T for k, C in inverse.items()}
    scores = np.exp(-sharpness * np.array([np.linalg.norm(c, axis=1) for c in compressed.values()]))
    assigned = scores / scores.sum(0)
    pulled = sum(
        (labels == k).mean() * p[:, None] * compressed[k]
        for k, p in zip(compressed, assigned, strict=True)
    )
    moved = z + eta * (z @ expansion.T - pulled)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def official_layer(
    features: np.ndarray, labels: np.ndarray, config: dict[str, float]
) -> np.ndarray:
    """A layer as the official code reads: unitary FFT, a loop over all frequencies."""
    eps, eta, sharpness = config["eps"], config["step"], config["sharpness"]
    axes = tuple(range(1, features.ndim - 1))
    z = np.fft.fftn(features, axes=axes, norm="ortho")
    shape = z.shape
    z = z.reshape(len(z), -1, shape[-1])
    m, T, C = z.shape
    classes = np.unique(labels)
    expanded, compressed = np.zeros_like(z), {k: np.zeros_like(z) for k in classes}
    for p in range(T):
        alpha = C / (m * eps**2)
        S = sum(np.outer(v, v.conj()) for v in z[:, p])
        expanded[:, p] = z[:, p] @ (alpha * np.linalg.inv(np.eye(C) + alpha * S)).T
        for k in classes:
            own = z[labels == k, p]
            alpha_k = C / (len(own) * eps**2)
            S = sum(np.outer(v, v.conj()) for v in own)
            compressed[k][:, p] = z[:, p] @ (alpha_k * np.linalg.inv(np.eye(C) + alpha_k * S)).T
    norms = np.array([np.sqrt(np.square(np.abs(c)).sum((1, 2))) for c in compressed.values()])
    scores = np.exp(-sharpness * norms)
    assigned = scores / scores.sum(0)
    pulled = sum(
        (labels == k).mean() * p[:, None, None] * compressed[k]
        for k, p in zip(classes, assigned, strict=True)
    )
    moved = z + eta * (expanded - pulled)
    moved /= np.sqrt(np.square(np.abs(moved)).sum((1, 2), keepdims=True))
    return np.fft.ifftn(moved.reshape(shape), axes=axes, norm="ortho").real
