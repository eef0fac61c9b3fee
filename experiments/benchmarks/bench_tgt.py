"""A step of teacher-guided training by arm, over distillation alone, and against PyTorch.

    pip install 'ncjax[bench]'
    python -m experiments.benchmarks.bench_tgt

Student and labeler are MLPs on images of 28 x 28 pixels, the generator is principal components or a
convolutional autoencoder; Adam, batches of 128, as many generated images, three steps up the
gradient. Each tool in a process of its own on so many cores, torch with as many threads, eager or
with networks by `torch.compile`, whichever is faster; compilation is apart.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import tgt_torch
from experiments.benchmarks.bench_training import images
from experiments.benchmarks.curvature_networks import Row, elapsed, markdown, peer, shortest
from experiments.benchmarks.workers import in_process, run
from ncjax import models, parallel, runs, tgt
from ncjax.training import Engine, TrainConfig
from ncjax.training.guided import TGTConfig
from ncjax.training.guides import Autoencoded

MODULE = "experiments.benchmarks.bench_tgt"
ARMS = ("none", "prior", "random", "gradient")
GENERATORS = {"principal components": 0, "autoencoder, width 8": 8}
SIZES = {"student": 64, "labeler": 512, "dim": 32}
BATCH, STEPS, ROUNDS = 128, 30, 5


def main(out: Path = Path("runs/bench_tgt.json")) -> None:
    """Measures all arms, prints a table and writes all rows.

    Args:
        out: JSON file of the rows and the environment.
    """
    started = time.perf_counter()
    rows = []
    for cores in sorted({1, parallel.cores()}):
        for name, width in GENERATORS.items():
            ours = in_process(MODULE, cores, "ncjax", width)
            theirs = in_process(MODULE, cores, "torch", cores, width)
            for arm in ARMS:
                row: Row = {"cores": cores, "generator": name, "arm": arm}
                row |= {"ncjax, ms a step": 1e3 * ours[arm], "torch, ms": 1e3 * theirs[arm]}
                row["over distillation alone"] = ours[arm] / ours["none"]
                row["torch / ncjax"] = theirs[arm] / ours[arm]
                if arm != "none":
                    row["images generated a second"] = BATCH / (ours[arm] - ours["none"])
                rows.append(row)
            print(markdown(rows[-len(ARMS) :]), flush=True)
    environment = {
        "device": jax.devices()[0].device_kind,
        "versions": {name: runs.version_of(name) for name in ("jax", "torch")},
        "date": time.strftime("%Y-%m-%d"),
        "seconds": elapsed(started),
    }
    runs.write_atomically(out, json.dumps({"environment": environment, "rows": rows}, indent=1))
    print(f"\n{environment}; written: {out}")


def config_of(arm: str) -> TrainConfig:
    """Of a student."""
    return TrainConfig(
        widths=(SIZES["student"],),
        method="tgt",
        tgt=TGTConfig("of its own", explore=arm),
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule="constant",
        batch_size=BATCH,
    )


def of_ncjax(width: str) -> dict[str, float]:
    """Seconds of a step of each arm."""
    dataset = images(200)
    x = dataset.unit(np.asarray(dataset.images))
    labeler = models.MLP(10, (SIZES["labeler"],) * 2)
    variables = labeler.init(jax.random.key(0), x[:1])
    guide = tgt.Guide(_generator(x, int(width)), lambda x: labeler.apply(variables, x)[0])
    calls = {}
    for arm in ARMS:
        engine = Engine(config_of(arm), dataset, "shard_map", jax.devices()[:1], guide)
        state = {"now": engine.initial()}

        def call(engine: Engine = engine, state: dict = state) -> float:
            state["now"], loss = engine.advance(state["now"], STEPS)
            return loss

        calls[arm] = call
    return {arm: s / STEPS for arm, s in shortest(calls, ROUNDS).items()}


def _generator(x: np.ndarray, width: int) -> tgt.Generator:
    if not width:
        return tgt.principal(x, SIZES["dim"])
    convolution = models.fastest()
    model = models.Autoencoder(10, (28, 28, 1), SIZES["dim"], width, convolution=convolution)
    variables = model.init(jax.random.key(1), jnp.asarray(x[:1]))
    dim = SIZES["dim"]
    return Autoencoded(variables, jnp.zeros(dim), jnp.eye(dim), model, (28, 28, 1))


def of_torch(cores: str, width: str) -> dict[str, float]:
    """The same by PyTorch, the better of eager and compiled networks."""
    peer("torch").set_num_threads(int(cores))
    dataset = images(200)
    x, sizes = dataset.unit(np.asarray(dataset.images)), {**SIZES, "width": int(width)}
    calls = {}
    for arm in ARMS:
        for compiled in (False, True):
            steps = tgt_torch.trainer(config_of(arm), sizes, x, dataset.labels, compiled)
            calls[arm, compiled] = lambda steps=steps: steps(STEPS)
    seconds = shortest(calls, ROUNDS)
    return {arm: min(seconds[arm, compiled] for compiled in (False, True)) / STEPS for arm in ARMS}


if __name__ == "__main__":
    run(main, {"ncjax": of_ncjax, "torch": of_torch})
