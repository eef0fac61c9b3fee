"""The unconstrained feature model from its definition, in NumPy: what the library is held against.

It shares no code with `ncjax`. Derivatives of the losses are taken by hand, and the Hessian is that
of a loss of bilinear logits,

    J' diag(D_1, .., D_N) J / N  +  sum_ik g_ik d2 z_ik / N  +  decay,

J the Jacobian of all logits z_ik = w_k . h_i + b_k in (W, H, b), g_i and D_i the gradient and
Hessian of the loss of sample i in its logits. No elimination, no symmetry, no compact points.
"""

from __future__ import annotations

import numpy as np

from ncjax.ufm import Params, Problem


def whole(params: Params, problem: Problem) -> Params:
    """A compact point with one row of H a sample and all columns, as NumPy arrays."""
    W, H, b = (np.asarray(leaf) for leaf in (params.W, params.H, params.b))
    if len(H) != problem.num_samples:
        H = np.repeat(H, problem.samples_per_class, axis=0)
    missing = ((0, 0), (0, problem.feature_dim - W.shape[1]))
    return Params(np.pad(W, missing), np.pad(H, missing), b)


def gradient(params: Params, problem: Problem) -> np.ndarray:
    """The gradient at a whole point, `[K d + N d + K]` in the order of W, H, b."""
    W, H, b = params.W, params.H, params.b
    g = _derivatives(params, problem)[0] / len(H)
    of_W = g.T @ H + problem.lambda_w * W
    of_H = g @ W + problem.lambda_h * H
    return np.concatenate([of_W.ravel(), of_H.ravel(), g.sum(0) + problem.lambda_b * b])


def hessian(params: Params, problem: Problem) -> np.ndarray:
    """The Hessian at a whole point, variables in the order of W, H, b."""
    W, H = params.W, params.H
    (K, d), N = W.shape, len(H)
    g, D = _derivatives(params, problem)
    jacobian = np.concatenate(
        [
            np.einsum("ie,kl->ikle", H, np.eye(K)).reshape(N, K, K * d),
            np.einsum("kf,ij->ikjf", W, np.eye(N)).reshape(N, K, N * d),
            np.tile(np.eye(K), (N, 1, 1)),
        ],
        axis=2,
    )
    curved = (D @ jacobian).reshape(N * K, -1)
    matrix = jacobian.reshape(N * K, -1).T @ curved / N
    bilinear = np.einsum("ik,ef->keif", g / N, np.eye(d)).reshape(K * d, N * d)
    of_W, of_H = slice(0, K * d), slice(K * d, (K + N) * d)
    matrix[of_W, of_H] += bilinear
    matrix[of_H, of_W] += bilinear.T
    decays = (problem.lambda_w, problem.lambda_h, problem.lambda_b)
    return matrix + np.diag(np.repeat(decays, (K * d, N * d, K)))


def _derivatives(params: Params, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Gradient `[N, K]` and Hessian `[N, K, K]` of each sample's loss in its logits."""
    Z = params.H @ params.W.T + params.b
    labels = np.repeat(np.arange(problem.num_classes), problem.samples_per_class)
    true = np.eye(problem.num_classes)[labels]
    return _OF_LOSS[problem.loss](Z, true, **problem.hyperparameters)


def _softmax(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and their Jacobian diag(p) - pp'."""
    p = np.exp(Z - Z.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    return p, np.einsum("ik,kl->ikl", p, np.eye(Z.shape[1])) - p[:, :, None] * p[:, None, :]


def _cross_entropy(
    Z: np.ndarray, true: np.ndarray, smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    p, spread = _softmax(Z)
    return p - (1 - smoothing) * true - smoothing / Z.shape[1], spread


def _label_smoothing(
    Z: np.ndarray, true: np.ndarray, smoothing: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    return _cross_entropy(Z, true, smoothing)


def _focal(Z: np.ndarray, true: np.ndarray, gamma: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """With a(q) = q L'(q), q the true probability: gradient a (e - p), Hessian of the same."""
    p, spread = _softmax(Z)
    q = (p * true).sum(1)[:, None]
    rest = (p * (1 - true)).sum(1)[:, None]  # 1 - q, to all digits
    log = np.log1p(-rest)
    a = gamma * q * rest ** (gamma - 1) * log - rest**gamma
    slope = gamma * rest ** (gamma - 1) * (log + 2) - gamma * (gamma - 1) * q * log * rest ** (
        gamma - 2
    )
    away = true - p
    outer = away[:, :, None] * away[:, None, :]
    return a * away, (slope * q)[:, :, None] * outer - a[:, :, None] * spread


def _mse(
    Z: np.ndarray, true: np.ndarray, scale: float = 1.0, target: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    weight = 1 + (scale - 1) * true
    return weight * (Z - target * true), np.einsum("ik,kl->ikl", weight, np.eye(Z.shape[1]))


_OF_LOSS = {
    "cross_entropy": _cross_entropy,
    "label_smoothing": _label_smoothing,
    "focal": _focal,
    "mse": _mse,
}
