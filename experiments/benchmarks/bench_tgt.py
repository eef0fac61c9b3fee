"""A step of teacher-guided training by arm, over distillation alone, and against PyTorch.

    pip install 'ncjax[bench]'
    python -m experiments.benchmarks.bench_tgt

Student and labeler are MLPs, of the sizes of `tgt_longtail`; the generator is principal components
or a convolutional autoencoder; Adam, as many generated images as real ones, three steps up the
gradient. Each tool in a process of its own on so many cores, torch with as many threads, eager or
with networks by `torch.compile`, whichever is faster; compilation is apart.
"""

from __future__ import annotations

import dataclasses
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
from ncjax import data, models, parallel, runs, tgt
from ncjax.training import Engine, TrainConfig
from ncjax.training.guided import TGTConfig
from ncjax.training.guides import Autoencoded

MODULE = "experiments.benchmarks.bench_tgt"
ARMS = ("none", "prior", "random", "gradient")
STEPS, ROUNDS = 30, 5


@dataclasses.dataclass(frozen=True)
class Case:
    """Data, and sizes.

    Attributes:
        dataset: "digits" or "fashion_mnist", random images of its shape where it is missing.
        batch_size: real images a step.
        student: width of its hidden layer.
        labeler: width of its two.
        dim: of the latent space.
        width: of a convolutional autoencoder; principal components if 0.
    """

    dataset: str
    batch_size: int
    student: int
    labeler: int
    dim: int
    width: int = 0

    def load(self) -> data.Dataset:
        """What is trained on."""
        return data.load("digits") if self.dataset == "digits" else images(200)


CASES = {
    "digits, principal components": Case("digits", 64, 32, 256, 16),
    "Fashion-MNIST, principal components": Case("fashion_mnist", 128, 64, 512, 32),
    "Fashion-MNIST, autoencoder": Case("fashion_mnist", 128, 64, 512, 32, 8),
}


def main(out: Path = Path("runs/bench_tgt.json")) -> None:
    """Measures all arms, prints a table and writes all rows.

    Args:
        out: JSON file of the rows and the environment.
    """
    started = time.perf_counter()
    rows = []
    for cores in sorted({1, parallel.cores()}):
        for name, case in CASES.items():
            ours = in_process(MODULE, cores, "ncjax", name)
            theirs = in_process(MODULE, cores, "torch", cores, name)
            for arm in ARMS:
                row: Row = {"cores": cores, "case": name, "arm": arm}
                row |= {"ncjax, ms a step": 1e3 * ours[arm], "torch, ms": 1e3 * theirs[arm]}
                row["over distillation alone"] = ours[arm] / ours["none"]
                row["torch / ncjax"] = theirs[arm] / ours[arm]
                if arm != "none":
                    row["images generated a second"] = case.batch_size / (ours[arm] - ours["none"])
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


def config_of(case: Case, arm: str) -> TrainConfig:
    """Of a student."""
    return TrainConfig(
        widths=(case.student,),
        method="tgt",
        tgt=TGTConfig("of its own", explore=arm),
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule="constant",
        batch_size=case.batch_size,
    )


def of_ncjax(name: str) -> dict[str, float]:
    """Seconds of a step of each arm."""
    case = CASES[name]
    dataset = case.load()
    x = dataset.unit(np.asarray(dataset.images))
    labeler = models.MLP(10, (case.labeler,) * 2)
    variables = labeler.init(jax.random.key(0), x[:1])
    guide = tgt.Guide(_generator(x, case), lambda x: labeler.apply(variables, x)[0])
    calls = {}
    for arm in ARMS:
        engine = Engine(config_of(case, arm), dataset, "shard_map", jax.devices()[:1], guide)
        state = {"now": engine.initial()}

        def call(engine: Engine = engine, state: dict = state) -> float:
            state["now"], loss = engine.advance(state["now"], STEPS)
            return loss

        calls[arm] = call
    return {arm: s / STEPS for arm, s in shortest(calls, ROUNDS).items()}


def _generator(x: np.ndarray, case: Case) -> tgt.Generator:
    dim = case.dim
    if not case.width:
        return tgt.principal(x, dim)
    model = models.Autoencoder(10, x.shape[1:], dim, case.width, convolution=models.fastest())
    variables = model.init(jax.random.key(1), jnp.asarray(x[:1]))
    return Autoencoded(variables, jnp.zeros(dim), jnp.eye(dim), model, x.shape[1:])


def of_torch(cores: str, name: str) -> dict[str, float]:
    """The same by PyTorch, the better of eager and compiled networks."""
    peer("torch").set_num_threads(int(cores))
    case = CASES[name]
    dataset = case.load()
    x, sizes = dataset.unit(np.asarray(dataset.images)), dataclasses.asdict(case)
    calls = {}
    for arm in ARMS:
        for compiled in (False, True):
            config = config_of(case, arm)
            steps = tgt_torch.trainer(config, sizes, x, dataset.labels, compiled)
            calls[arm, compiled] = lambda steps=steps: steps(STEPS)
    seconds = shortest(calls, ROUNDS)
    return {arm: min(seconds[arm, compiled] for compiled in (False, True)) / STEPS for arm in ARMS}


if __name__ == "__main__":
    run(main, {"ncjax": of_ncjax, "torch": of_torch})
