"""A constructed ReduNet, fine-tuned by back-propagation, or trained from random (2105.10446).

Digits, and Fashion-MNIST in its first 64 principal directions. All have the same layers and steps
of Adam on cross entropy of the network's own scores; the learning rate and the epoch are chosen on
validation samples, for each start apart.

    python -m experiments.redunet_backprop --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import tyro
from sklearn.decomposition import TruncatedSVD

from experiments.drawing import redunet as drawing
from experiments.networks import spread
from experiments.splits import Split, classical, on_all, split, unit
from experiments.tables import markdown
from ncjax import losses, runs
from ncjax.redunet import ReduNet, ReduNetModule

TEMPERATURE = 100.0
"""Scores are divided by it in the loss: they are in the hundreds at the sharpness of 500."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        datasets: by name: training samples of each class, test samples at most.
        num_layers: L.
        epochs: of training.
        rates: learning rates to choose from.
        batch_size: samples a step.
        eps: precision.
        seeds: splits.
    """

    datasets: dict[str, tuple[int, int]] = dataclasses.field(
        default_factory=lambda: {"digits": (80, 2000), "fashion_mnist": (400, 5000)}
    )
    num_layers: int = 5
    epochs: int = 40
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    batch_size: int = 100
    eps: float = 1.0
    seeds: int = 3


PRESETS = {
    "smoke": Config({"digits": (20, 100)}, 2, 2, (1e-3,), 50, 1.0, 2),
    "cpu": Config(),
    "accelerator": Config({"digits": (80, 2000), "fashion_mnist": (2000, 10_000)}, 20, 100),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/redunet_backprop"),
) -> None:
    """Builds and trains all, and writes the table and the figure.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    table = on_all(
        run, config.datasets, config.seeds, lambda name, seed: compared(name, seed, config)
    )
    ends = table.loc[table.groupby(["data", "seed", "method"], sort=False)["validation"].idxmax()]
    summary = markdown(spread(ends, ["data", "method"], ["accuracy", "training", "rate"]))
    runs.write_atomically(run / "redunet_backprop.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    drawing.trained(table, ends, run / "figures" / "redunet_backprop.png")
    print(summary)
    print(f"written: {run}")


def compared(name: str, seed: int, config: Config) -> pd.DataFrame:
    """Accuracy after every epoch, of each start and rate, and of raw nearest subspaces."""
    parts = _reduced(split(name, seed, *config.datasets[name]))
    net = ReduNet(config.num_layers, config.eps).fit(*parts.train)
    module, constructed = net.to_flax()
    random = module.init(jax.random.key(seed), jnp.asarray(parts.train[0][:1]))
    validation, test = classical(parts, ["subspace"])["subspace"]
    rows = [{"method": "raw nearest subspace", "validation": validation, "accuracy": test}]
    starts = {"fine-tuned": constructed, "from random": random}
    for (method, start), rate in ((pair, rate) for pair in starts.items() for rate in config.rates):
        history = _history(module, start, parts, rate, seed, config)
        if method == "fine-tuned" and rate == config.rates[0]:
            rows.append({"method": "constructed", **history[0]})
        rows += [{"method": method, "rate": rate, **row} for row in history]
    return pd.DataFrame(rows).assign(data=name, seed=seed)


def _reduced(parts: Split) -> Split:
    """In at most 64 principal directions of the training samples, not centred, of unit length."""
    flat = parts.map(unit)
    if flat.train[0].shape[1] <= 64:
        return flat
    reducer = TruncatedSVD(64, random_state=0).fit(flat.train[0])
    return flat.map(lambda x: unit(reducer.transform(x)))


def _history(
    module: ReduNetModule, start: dict, parts: Split, rate: float, seed: int, config: Config
) -> list[dict[str, float]]:
    """Accuracies before training and after each epoch."""
    size = config.batch_size
    x, y = map(jnp.asarray, parts.train)
    optimizer = optax.adam(rate)

    def loss(variables: dict, rows: jax.Array) -> jax.Array:
        scores, _ = module.apply(variables, x[rows])
        return losses.cross_entropy(scores / TEMPERATURE, y[rows]).mean()

    def step(state: tuple, rows: jax.Array) -> tuple[tuple, None]:
        variables, inner = state
        updates, inner = optimizer.update(jax.grad(loss)(variables, rows), inner)
        return (optax.apply_updates(variables, updates), inner), None

    @jax.jit
    def epoch(state: tuple, key: jax.Array) -> tuple:
        count = len(x) // size
        rows = jax.random.permutation(key, len(x))[: count * size].reshape(count, size)
        return jax.lax.scan(step, state, rows)[0]

    accuracy = functools.partial(_accuracy, jax.jit(module.apply))
    state, found = (start, optimizer.init(start)), []
    for number in range(config.epochs + 1):
        if number:
            state = epoch(state, jax.random.fold_in(jax.random.key(seed), number))
        sets = {"training": parts.train, "validation": parts.validation, "accuracy": parts.test}
        scores = {name: accuracy(state[0], *one) for name, one in sets.items()}
        found.append({"epoch": number, **scores})
    return found


def _accuracy(apply: object, variables: dict, x: np.ndarray, y: np.ndarray) -> float:
    return float((np.asarray(apply(variables, x)[0]).argmax(1) == y).mean())


if __name__ == "__main__":
    tyro.cli(main)
