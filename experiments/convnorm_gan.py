"""Generative adversarial networks whose discriminators have several norms (2103.00673).

A small DCGAN on Fashion-MNIST, hinge losses, Adam. Images are judged by the Fréchet distance to
test images in features of our own classifier: its values can be compared here alone.

    python -m experiments.convnorm_gan --preset cpu
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import orbax.checkpoint as ocp
import pandas as pd
import tyro
from matplotlib.figure import Figure

from experiments.networks import spread
from experiments.tables import kept, markdown
from ncjax import data, metrics, models, plots, progress, runs, training
from ncjax.models import gan
from ncjax.plots import COLORS, MARKERS, STYLE
from ncjax.training import TrainConfig

NORMS = {"none": "none", "spectral norm": "spectral", "ConvNorm": "conv"}
LATENT = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        per_class: images of each class.
        width: of both networks.
        steps: updates of each.
        measured: steps between two measurements.
        seeds: of each norm.
        judged: images that are generated for a distance.
        batch_size: real images a step, and generated ones.
        rates: learning rates of the discriminator; the generator's is `rate`. The better one of
            each norm counts, by the mean distance at the end.
        rate: of the generator.
        classifier: that gives the features.
    """

    per_class: int
    width: int
    steps: int
    measured: int
    seeds: int
    judged: int
    batch_size: int = 64
    rates: tuple[float, ...] = (2e-4, 1e-3)
    rate: float = 2e-4
    classifier: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(
            dataset="fashion_mnist",
            corruption=data.Corruption(per_class=500),
            network="cnn",
            width=16,
            epochs=20,
            batch_size=100,
            learning_rate=0.02,
            weight_decay=5e-4,
        )
    )


PRESETS = {
    "smoke": Config(
        10,
        4,
        6,
        3,
        1,
        80,
        rates=(1e-3,),
        classifier=TrainConfig(
            dataset="fashion_mnist",
            corruption=data.Corruption(per_class=20),
            network="cnn",
            width=4,
            feature_dim=8,
            epochs=2,
            batch_size=100,
        ),
    ),
    "cpu": Config(1000, 16, 3000, 500, 3, 2000),
    "accelerator": Config(6000, 64, 50_000, 5000, 5, 10_000),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu", run: Path = Path("runs/convnorm_gan")
) -> None:
    """Trains all, and writes the table and the figures.

    Args:
        preset: smoke takes seconds, cpu an hour or two.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    config = PRESETS[preset]
    run = runs.open_run(run, config)
    print(f"writing to {run}")
    training.train(config.classifier, run / "classifier", show_progress=False)
    cases = [
        (name, rate, seed)
        for name in NORMS
        for rate in config.rates
        for seed in range(config.seeds)
    ]
    tables = []
    for name, rate, seed in progress.bar(cases, desc="networks", unit=" runs"):
        folder = run / f"{NORMS[name]}-{rate:g}-{seed}"
        work = functools.partial(trained, name, rate, seed, config, run, folder)
        table = kept(folder / "distances.csv", work)
        tables.append(table.assign(norm=name, rate=rate, seed=seed))
    table = pd.concat(tables, ignore_index=True)
    ends = table[table["step"] == config.steps]
    summary = markdown(spread(ends, ["norm", "rate"], ["distance"]))
    runs.write_atomically(run / "convnorm_gan.md", summary + "\n")
    (run / "figures").mkdir(exist_ok=True)
    draw(table, run / "figures" / "convnorm_gan.png")
    draw_images(best_rates(ends), run, run / "figures" / "convnorm_gan_images.png")
    print(summary)
    print(f"written: {run}")


def best_rates(ends: pd.DataFrame) -> dict[str, float]:
    """Of each norm the learning rate with the smallest mean distance."""
    means = ends.groupby(["norm", "rate"], sort=False)["distance"].mean()
    return {norm: means[norm].idxmin() for norm in dict.fromkeys(ends["norm"])}


def trained(
    name: str, rate: float, seed: int, config: Config, run: Path, folder: Path
) -> pd.DataFrame:
    """Distances over the steps; checkpoints, and some images at the end, are kept in the folder."""
    images = data.load("fashion_mnist").corrupt(data.Corruption(per_class=config.per_class)).images
    judge = judged_by(training.load_run(run / "classifier"), config)
    networks = {
        "generator": gan.Generator(config.width, convolution=models.fastest()),
        "discriminator": gan.Discriminator(NORMS[name], config.width, models.fastest()),
    }
    rates = {"generator": config.rate, "discriminator": rate}
    optimizers = {key: optax.adam(rates[key], b1=0.5) for key in networks}
    advance = advancing(networks, optimizers, images, config)
    state, rows = initial(networks, optimizers, seed, images), []
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options) as manager:
        if manager.latest_step() is not None:
            like = {"state": state, "distances": np.zeros(manager.latest_step() // config.measured)}
            plain = jax.tree.map(np.asarray, like)
            found = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(plain))
            state, rows = jax.tree.map(jnp.asarray, found["state"]), list(found["distances"])
        for step in range(config.measured * (len(rows) + 1), config.steps + 1, config.measured):
            state = advance(jax.random.fold_in(jax.random.key(seed), step), state)
            made = generated(networks["generator"], state["generator"], config)
            rows.append(judge(made))
            plain = jax.tree.map(np.asarray, {"state": state, "distances": np.array(rows)})
            manager.save(step, args=ocp.args.StandardSave(plain))
    made = generated(networks["generator"], state["generator"], config)
    runs.write_atomically(folder / "images.npy", lambda path: np.save(path, made[:10]))
    steps = config.measured * np.arange(1, len(rows) + 1)
    return pd.DataFrame({"step": steps, "distance": rows})


def initial(networks: dict, optimizers: dict, seed: int, images: np.ndarray) -> dict[str, Any]:
    """Variables of both networks and their optimizers' states."""
    keys = jax.random.split(jax.random.key(seed))
    examples = {"generator": np.zeros((1, LATENT), "f4"), "discriminator": images[:1] / 255}
    state = {}
    for key, (name, net) in zip(keys, networks.items(), strict=True):
        variables = net.init(key, jnp.asarray(examples[name], jnp.float32), train=True)
        opt_state = optimizers[name].init(variables["params"])
        state[name] = {"variables": variables, "opt_state": opt_state}
    return state


def advancing(networks: dict, optimizers: dict, images: np.ndarray, config: Config) -> Callable:
    """`measured` steps, each an update of the discriminator and one of the generator, compiled."""
    pixels = jnp.asarray(images)

    def applied(name: str, variables: dict, x: jax.Array) -> tuple[jax.Array, dict]:
        rest = [key for key in variables if key != "params"]
        return networks[name].apply(variables, x, train=True, mutable=rest)

    def updated(name: str, state: dict, slopes: Any, rest: dict) -> dict:
        own = state[name]
        params = own["variables"]["params"]
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizers[name].update(slopes, own["opt_state"], params)
        variables = {**own["variables"], **rest, "params": optax.apply_updates(params, updates)}
        return {**state, name: {"variables": variables, "opt_state": opt_state}}

    def loss(name: str, state: dict, real: jax.Array, z: jax.Array, params: Any) -> tuple:
        variables = {key: own["variables"] for key, own in state.items()}
        variables[name] = {**variables[name], "params": params}
        fake, of_generator = applied("generator", variables["generator"], z)
        both = jnp.concatenate([real, fake])
        scores, of_discriminator = applied("discriminator", variables["discriminator"], both)
        values = gan.hinge_losses(*jnp.split(scores, 2))
        if name == "generator":
            return values[1], of_generator
        return values[0], of_discriminator

    def step(state: dict, key: jax.Array) -> tuple[dict, None]:
        of_rows, of_noise = jax.random.split(key)
        rows = jax.random.randint(of_rows, (config.batch_size,), 0, len(pixels))
        real = pixels[rows].astype(jnp.float32) / 255
        z = jax.random.normal(of_noise, (config.batch_size, LATENT))
        for name in ("discriminator", "generator"):
            slope = jax.grad(functools.partial(loss, name, state, real, z), has_aux=True)
            state = updated(name, state, *slope(state[name]["variables"]["params"]))
        return state, None

    def advance(key: jax.Array, state: dict) -> dict:
        return jax.lax.scan(step, state, jax.random.split(key, config.measured))[0]

    return jax.jit(advance)


def generated(generator: gan.Generator, own: dict, config: Config) -> np.ndarray:
    """Images of fixed noise, in batches."""
    make = jax.jit(lambda z: generator.apply(own["variables"], z, train=False))
    z = np.random.default_rng(0).normal(size=(config.judged, LATENT)).astype(np.float32)
    parts = np.array_split(z, max(1, config.judged // 500))
    return np.concatenate([np.asarray(make(part)) for part in parts])


def judged_by(classifier: training.Trained, config: Config) -> Callable[[np.ndarray], float]:
    """The distance of images between 0 and 1 from test images, in the classifier's features."""
    dataset = classifier.dataset

    @jax.jit
    def features(x: jax.Array) -> jax.Array:
        return classifier.model.apply(classifier.variables, dataset.standardised(x), train=False)[1]

    def of(images: np.ndarray) -> np.ndarray:
        parts = np.array_split(images, max(1, len(images) // 500))
        return np.concatenate([np.asarray(features(part)) for part in parts])

    real = of(dataset.unit(dataset.test_images[: config.judged]))
    return lambda images: metrics.frechet_distance(real, of(images))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Distances over the steps, a line for each norm and learning rate."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        ax = figure.subplots()
        rates = sorted(table["rate"].unique())
        for number, (norm, rows) in enumerate(table.groupby("norm", sort=False)):
            for dashes, rate in zip(("-", "--", ":"), rates, strict=False):
                groups = rows[rows["rate"] == rate].groupby("step")["distance"]
                style = {"color": COLORS[number], "marker": MARKERS[number], "linestyle": dashes}
                label = f"{norm}, rate {rate:g}"
                ax.errorbar(
                    groups.mean().index,
                    groups.mean(),
                    groups.std(),
                    capsize=2,
                    markersize=4,
                    label=label,
                    **style,
                )
        ax.set(xlabel="step", ylabel="Fréchet distance")
        ax.legend(fontsize=7)
        plots.save(figure, path)


def draw_images(rates: dict[str, float], run: Path, path: Path) -> None:
    """Ten images of each norm at its better learning rate, of the same noise."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.8 * len(rates) + 0.3), layout="constrained")
        axes = figure.subplots(len(rates), 10, squeeze=False)
        for row, (norm, rate) in zip(axes, rates.items(), strict=True):
            images = np.load(run / f"{NORMS[norm]}-{rate:g}-0" / "images.npy")
            for ax, image in zip(row, images, strict=True):
                ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
                ax.set_xticks([])
                ax.set_yticks([])
            row[0].set_ylabel(norm, fontsize=7)
        plots.save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
