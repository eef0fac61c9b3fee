"""Hessian spectra of networks in the terminal phase, float32 products against float64 matrices.

An MLP and a small CNN (plain Flax modules, as anyone brings them) are trained on the digits far
past zero error. Then, in float32 and by products alone, the K + 2 largest and 3 smallest
eigenpairs, the verdict and the class structure; and, small as the networks are, the whole matrix
in float64.

    python -m experiments.spectrum_digits --run runs/spectrum_digits    # 5 to 7 minutes on 2 cores

Expected: every pair has converged with a residual below 1e-3 of the norm, and agrees with float64
to 1e-4 of the norm; the verdict is inconclusive where training stops, for want of a smaller
gradient, and no negative curvature after `escape`; a few leading eigenvalues stand
clear of the bulk within classes, and the gradients of the class means lie mostly in the leading
span (cosine above 0.8).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import tyro

from ncjax import curvature, data, losses, progress, runs

WEIGHT_DECAY = 1e-3
CLASSES = 10


class MLP(nn.Module):
    """64, 32, 32, 10: 3,466 parameters."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `[N, 10]` of images `[N, 8, 8]`."""
        x = x.reshape(x.shape[0], -1)
        for width in (32, 32):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(CLASSES)(x)


class CNN(nn.Module):
    """Two convolutions of 3 x 3, stride 2, and a dense layer: 1,898 parameters."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `[N, 10]` of images `[N, 8, 8]`."""
        x = nn.tanh(nn.Conv(8, (3, 3), strides=2)(x[..., None]))
        x = nn.tanh(nn.Conv(16, (3, 3), strides=2)(x))
        return nn.Dense(CLASSES)(x.reshape(x.shape[0], -1))


def main(run: Path = Path("runs/spectrum_digits"), epochs: int = 500, seed: int = 0) -> None:
    """Train both networks, examine them, and write the table.

    Args:
        run: folder for `spectra.csv`.
        epochs: of training, batches of 128, momentum 0.9, cosine schedule.
        seed: of initial weights and batch order.
    """
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    digits = data.load("digits")
    rows = [
        examine(name, model, *trained(name, model, digits, epochs, seed), digits)
        for name, model in {"MLP": MLP(), "CNN": CNN()}.items()
    ]
    table = pd.DataFrame(rows).set_index("network").T
    runs.write_atomically(run / "spectra.csv", table.to_csv())
    print(table.to_string())
    print(f"written: {run / 'spectra.csv'}")


def trained(
    name: str, model: nn.Module, digits: data.Dataset, epochs: int, seed: int
) -> tuple[Any, Callable[..., jax.Array]]:
    """Parameters after training, and the per-example loss."""
    images, labels = jnp.asarray(digits.images), jnp.asarray(digits.labels)
    steps = len(labels) // 128
    optimizer = optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY),
        optax.sgd(optax.cosine_decay_schedule(0.1, epochs * steps), momentum=0.9),
    )

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return losses.cross_entropy(model.apply(params, x), y)

    @jax.jit
    def epoch(params: Any, state: Any, key: jax.Array) -> tuple[Any, Any]:
        rows = jax.random.permutation(key, len(labels))[: steps * 128].reshape(steps, 128)

        def step(carry: tuple, chosen: jax.Array) -> tuple:
            params, state = carry
            gradient = jax.grad(lambda p: loss(p, images[chosen], labels[chosen]).mean())(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), rows)[0]

    params = model.init(jax.random.key(seed), images[:1])
    state = optimizer.init(params)
    for number in progress.bar(range(epochs), desc=f"train {name}", unit=" epochs"):
        params, state = epoch(params, state, jax.random.fold_in(jax.random.key(seed), number))
    return params, loss


def examine(
    name: str,
    model: nn.Module,
    params: Any,
    loss: Callable[..., jax.Array],
    digits: data.Dataset,
) -> dict[str, Any]:
    """Everything the curvature room says of a network, beside the float64 matrix."""
    images, labels = jnp.asarray(digits.images), jnp.asarray(digits.labels)
    f = curvature.data_hessian(loss, (images, labels), weight_decay=WEIGHT_DECAY)
    started = time.perf_counter()
    pairs = curvature.extreme_eigenpairs(
        f, params, (3, CLASSES + 2), "BE", num_steps=300, backend="lanczos"
    )
    seconds = time.perf_counter() - started
    found = curvature.examine(f, params, num_steps=300, confirm=True)
    way = curvature.escape(f, params, num_steps=300, max_steps=3000)
    classes = curvature.class_structure(
        model.apply, losses.cross_entropy, params, images, labels, CLASSES
    )
    dense = float64_eigenvalues(loss, params, digits)
    exact = np.concatenate([dense[:3], dense[-CLASSES - 2 :]])
    return {
        "network": name,
        "parameters": len(dense),
        "training accuracy": float((model.apply(params, images).argmax(-1) == labels).mean()),
        "mean loss": float(loss(params, images, labels).mean()),
        "norm": float(pairs.scale),
        "converged pairs": f"{int(pairs.converged.sum())} of {len(exact)}",
        "largest residual / norm": float((pairs.residuals / pairs.scale).max()),
        "largest difference from float64 / norm": float(
            np.abs(np.asarray(pairs.eigenvalues) - exact).max() / pairs.scale
        ),
        "smallest eigenvalue, products": float(pairs.eigenvalues[0]),
        "smallest eigenvalue, matrix": float(dense[0]),
        "99 % lower bound": float(found.lower_bound),
        "gradient norm": float(found.gradient_norm),
        "verdict": found.label,
        "negative, proved": int(found.negative),
        "negative, matrix": int((dense < -float(found.curvature_tolerance)).sum()),
        "after L-BFGS": way.examinations[-1].label,
        "gradient norm after": float(way.examinations[-1].gradient_norm),
        "outliers clear of the bulk within classes": int(classes.outliers),
        "trace of G between classes": float(classes.between_share),
        "class-mean gradients in the leading span": float(classes.alignment.min()),
        "seconds with compilation, 300 products": seconds,
    }


def float64_eigenvalues(
    loss: Callable[..., jax.Array], params: Any, digits: data.Dataset
) -> np.ndarray:
    """All eigenvalues of the Hessian, ascending, from its float64 matrix."""
    with jax.enable_x64(True):
        wide = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, jnp.float64))
        examples = (wide(digits.images), jnp.asarray(digits.labels))
        f = curvature.data_hessian(loss, examples, weight_decay=WEIGHT_DECAY)
        return np.linalg.eigvalsh(np.asarray(curvature.hessian_matrix(f, wide(params))))


if __name__ == "__main__":
    tyro.cli(main)
