"""Fixed simplex-ETF classifiers, and as few features as classes: accuracy and cost (2105.02375).

Learned or fixed head, full feature dimension or d = K, with and without weight on the last block;
parameters, time and memory of a training step. The table of parameters of the papers' networks is
counted, not trained.

    python -m experiments.collapse_fixed_etf --preset cpu
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import pandas as pd
import tyro

from experiments.networks import CNN, DIGITS, NC, PAPER_A, RESNET18, Configs, experiment
from experiments.tables import markdown
from ncjax import data, models, parallel, plots, runs, training
from ncjax.training import TrainConfig

KEYS = ("head", "d", "seed")
BASES = {
    "smoke": DIGITS,
    "cpu": dataclasses.replace(CNN, epochs=150),
    "accelerator": RESNET18,
    "paper": dataclasses.replace(PAPER_A, stem="cifar", augment="crop_flip"),
}
SEEDS = {"smoke": 1, "cpu": 3, "accelerator": 3, "paper": 3}
CLASSES = 10


def configs(preset: str) -> Configs:
    """Both heads, both dimensions, all seeds."""
    found = {}
    for head, d, seed in itertools.product(("learned", "etf"), ("full", "K"), range(SEEDS[preset])):
        config = dataclasses.replace(BASES[preset], head=head, seed=seed)
        if d == "K":
            sizes = {"feature_dim": CLASSES}
            if config.network == "mlp":
                sizes = {"widths": (*config.widths[:-1], CLASSES)}
            config = dataclasses.replace(config, **sizes)
        found[head, d, seed] = config
    return found


def main(
    preset: Literal["smoke", "cpu", "accelerator", "paper"] = "cpu",
    run: Path = Path("runs/collapse_fixed_etf"),
) -> None:
    """Count, train all, and write tables and the curves.

    Args:
        preset: smoke takes seconds, cpu a quarter of an hour.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    counts = counted()
    print(markdown(counts))
    columns = ("accuracy", "test_accuracy", *NC)
    experiment("collapse_fixed_etf", configs(preset), KEYS, columns, run, draw)
    runs.write_atomically(run / "parameters.csv", counts.to_csv())
    costs = measured_costs({key[:2]: c for key, c in configs(preset).items() if key[2] == 0})
    runs.write_atomically(run / "costs.csv", costs.to_csv())
    print(markdown(costs))


def counted() -> pd.DataFrame:
    """Trainable parameters of the papers' networks, and what a fixed head with d = K saves."""
    rows = {}
    for depth, stem in itertools.product((18, 50), ("cifar", "imagenet")):
        learned, fixed = (
            parameters(models.ResNet(CLASSES, depth, stem=stem, **changes))
            for changes in ({}, {"feature_dim": CLASSES, "head": "etf"})
        )
        name = f"ResNet-{depth}, {stem} stem"
        rows[name] = {"learned, full d": learned, "ETF, d = 10": fixed}
        rows[name]["saved, %"] = 100 * (1 - fixed / learned)
    return pd.DataFrame.from_dict(rows, orient="index")


def parameters(model: models.ResNet, shape: tuple[int, ...] = (1, 32, 32, 3)) -> int:
    """How many parameters are trained, without making any."""
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def measured_costs(chosen: dict[tuple, TrainConfig]) -> pd.DataFrame:
    """Trained parameters, milliseconds and scratch memory of a training step of each network."""
    rows = {}
    for name, config in chosen.items():
        dataset = data.load(config.dataset).corrupt(config.corruption)
        engine = training.Engine(config, dataset, "shard_map", jax.devices()[:1])
        state = engine.initial()
        steps = min(20, engine.task.steps_per_epoch)
        state, _ = engine.advance(state, steps)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            state, _ = engine.advance(state, steps)
            times.append(time.perf_counter() - started)
        leaves = jax.tree.leaves(state.variables["params"])
        rows[", d = ".join(name)] = {
            "parameters": sum(leaf.size for leaf in leaves),
            "a step, ms": 1e3 * min(times) / steps,
            "scratch memory of a step, MB": step_memory(engine, state) / 1e6,
        }
        rows[", d = ".join(name)]["device"] = jax.devices()[0].device_kind
    return pd.DataFrame.from_dict(rows, orient="index")


def step_memory(engine: training.Engine, state: training.State) -> int:
    """Bytes that the compiled step needs besides its arguments and results."""
    config, task, dataset = engine.configs[0], engine.task, engine.dataset
    rows = jnp.zeros((1, 1, config.batch_size), jnp.int32)
    member = training.members.member_of(config, [config])
    advance = jax.vmap(
        training.steps.make_advance(task),
        (None, None, None, None, 0, None),
        None,
        axis_name=parallel.AXIS,
    )
    arguments = (member, state, dataset.images[:1000], dataset.labels[:1000], rows, jnp.int32(1))
    return jax.jit(advance).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def draw(table: pd.DataFrame, folder: Path) -> None:
    """NC1 to NC4 against the epoch, first seeds."""
    first = table[table["seed"] == 0].groupby(["head", "d"], sort=False)
    curves = {f"{head}, d = {d}": rows for (head, d), rows in first}
    plots.collapse_curves(curves, folder / "fixed_etf.png")


if __name__ == "__main__":
    tyro.cli(main)
