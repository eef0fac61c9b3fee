"""Teachers for teacher-guided training, from run folders and by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, data, models, tgt
from ncjax.training.config import TrainConfig
from ncjax.training.restore import Trained, load_run
from ncjax.types import AnyArray

LATENTS = "latents.npz"
Factory = Callable[[data.Dataset], tgt.Generator]
GENERATORS: dict[str, Factory] = {}
"""Generators of one's own, made of a run's data set."""


def register_generator(name: str, factory: Factory) -> None:
    """Makes a generator of your own known to `TGTConfig.generator`.

    Args:
        name: not that of another one, nor "pca".
        factory: of the data set that a student trains on.

    Raises:
        InputError: the name is another generator's.
    """
    if name == "pca" or GENERATORS.setdefault(name, factory) is not factory:
        raise checks.reject("name", repr(name), "a name that no other generator has")


def guide_of(config: TrainConfig, dataset: data.Dataset) -> tgt.Guide | None:
    """The teacher that a config names, tried on a few images; None unless its method is "tgt".

    Args:
        config: of the student.
        dataset: of the student.

    Raises:
        InputError: no labeler, an unknown generator, or a teacher that does not fit the data
            (`ncjax.tgt.check_guide`).
    """
    if config.method != "tgt":
        return None
    if not config.tgt.labeler:
        accepted = "the folder of a training run whose network labels"
        raise checks.reject("tgt.labeler", "none", accepted, "Train one with `ncjax train`.")
    generator = _generator(config, dataset) if config.tgt.needs_generator else None
    guide = tgt.Guide(generator, labeler_of(load_run(config.tgt.labeler)))
    tgt.check_guide(guide, dataset.unit(dataset.images[:8]), dataset.num_classes)
    return guide


def labeler_of(trained: Trained) -> tgt.Labeler:
    """A trained network as a labeler of images between 0 and 1."""
    model = _fast(trained.model)

    def logits(x: Any) -> jax.Array:
        inputs = trained.dataset.standardised(x)
        return model.apply(trained.variables, inputs, train=False)[0]

    return logits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Autoencoded:
    """A trained autoencoder as a generator of images between 0 and 1.

    Attributes:
        variables: of the network.
        mean: of latent points over its training images, `[d]`.
        factor: of their covariance, which is it times its transpose, `[d, d]`.
        model: the network, an `Autoencoder` or `TextAutoencoder` of `ncjax.models`.
        shape: of an image.
        labels: of the rows that it is used on, if it is conditional; None for no class.
    """

    variables: Any
    mean: jax.Array
    factor: jax.Array
    model: Any = dataclasses.field(metadata={"static": True})
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    labels: jax.Array | None = None

    @property
    def scale(self) -> jax.Array:
        """Standard deviations of latent points over the training images."""
        return jnp.linalg.norm(self.factor, axis=1)

    def given(self, labels: AnyArray) -> Autoencoded:
        """The generator of these classes; the same if it is not conditional."""
        return dataclasses.replace(self, labels=labels) if self.model.conditional else self

    def encode(self, x: AnyArray) -> jax.Array:
        """Latent points less their mean."""
        return self._applied("encode", x) - self.mean[None]

    def decode(self, z: AnyArray) -> jax.Array:
        """Images."""
        x = self._applied("decode", z + self.mean[None])
        return x.reshape(len(x), *self.shape)

    def sample(self, key: jax.Array) -> jax.Array:
        """Standard normal if variational; else with the mean and covariance of latent points."""
        noise = jax.random.normal(key, self.mean.shape)
        return noise - self.mean if self.model.variational else self.factor @ noise

    def _applied(self, method: str, x: AnyArray) -> jax.Array:
        classes = (self.labels,) if self.model.conditional else ()
        return self.model.apply(self.variables, x, *classes, method=method)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rewritten(Autoencoded):
    """A trained autoencoder of texts; decodes distributions over the vocabulary, `[n, L, V]`."""

    def decode(self, z: AnyArray) -> jax.Array:
        """Relaxed texts, which gradients pass through."""
        return jax.nn.softmax(self._applied("decode", z + self.mean[None]))

    def harden(self, x: AnyArray) -> jax.Array:
        """Their most probable words."""
        return jnp.asarray(x).argmax(-1).astype(jnp.int32)


def generator_of(run: Path | str) -> Autoencoded:
    """The generator that a finished run of network "autoencoder" or "text_autoencoder" trained.

    Raises:
        InputError: not such a run, or not finished.
    """
    trained, path = load_run(run), Path(run) / LATENTS
    if not path.exists():
        accepted = "the folder of a finished run of an autoencoder"
        remedy = "Train one with `ncjax train --network autoencoder`."
        raise checks.reject("tgt.generator", str(run), accepted, remedy)
    with np.load(path) as latents:
        mean, covariance = latents["mean"], latents["covariance"].astype(np.float64)
    made = Rewritten if trained.config.network == "text_autoencoder" else Autoencoded
    return made(
        variables=jax.tree.map(jnp.asarray, dict(trained.variables)),
        mean=jnp.asarray(mean, jnp.float32),
        factor=jnp.asarray(_factor(covariance), jnp.float32),
        model=_fast(trained.model),
        shape=trained.dataset.images.shape[1:],
    )


def _fast(model: nn.Module) -> nn.Module:
    """With the fastest convolutions, as each step of exploring differentiates them."""
    return model.clone(convolution=models.fastest()) if hasattr(model, "convolution") else model


def _factor(covariance: np.ndarray) -> np.ndarray:
    """A square root; of latent coordinates that the encoder leaves alone, zero."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))[None]


def _generator(config: TrainConfig, dataset: data.Dataset) -> tgt.Generator:
    name = config.tgt.generator
    if name == "pca":
        images = dataset.images
        if config.tgt.fit == "all":
            corruption = config.corruption
            whole = data.Corruption(validation=corruption.validation, seed=corruption.seed)
            images = data.load(config.dataset).corrupt(whole).images
        return tgt.principal(dataset.unit(images), config.tgt.dim)
    if name in GENERATORS:
        return GENERATORS[name](dataset)
    if not Path(name).exists():
        known = ", ".join(map(repr, GENERATORS))
        accepted = "'pca', the folder of an autoencoder's run, or the name of a registered one"
        raise checks.reject("tgt.generator", repr(name), f"{accepted} ({known or 'none so far'})")
    return generator_of(name)
