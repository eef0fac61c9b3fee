"""A student's step in teacher-guided training (`ncjax.tgt`), as a method of the training engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, losses, tgt
from ncjax.tgt import objective
from ncjax.tgt.protocols import given
from ncjax.training.methods import Batch, Method

Explore = Literal["none", "prior", "random", "gradient", "input_noise", "mixup"]
Seeds = Literal["batch", "balanced", "unlabelled"]
_CHOICES = {
    "explore": ("none", "prior", "random", "gradient", "input_noise", "mixup"),
    "seeds": ("batch", "balanced", "unlabelled"),
    "confidence": objective.CONFIDENCES,
    "fit": ("all", "train"),
    "batches": ("merged", "separate"),
}


@dataclasses.dataclass(frozen=True)
class TGTConfig:
    """Settings of teacher-guided training: the teacher, where it looks, and what that weighs.

    The loss is that of the labels, plus `real` times the distillation on the same images, plus
    `unlabelled` times that on unlabelled images, plus `generated` times that on generated ones; as
    many of each as there are in a batch. With `explore` "none" this is knowledge distillation.

    Attributes:
        labeler: folder of the run whose network labels.
        generator: "pca", the folder of an autoencoder's run, or the name of one that
            `ncjax.training.register_generator` made known.
        dim: principal components of "pca".
        fit: what "pca" is fitted to: "all" training images (but for those set aside for
            validation), or what a corruption left of them, "train".
        explore: how images are generated: "none"; "prior", "random" or "gradient"
            (`ncjax.tgt.explorers`); and for comparison "input_noise", as far as "random" goes in
            directions without meaning, and "mixup" of two seeds.
        seeds: of generated images: the "batch" itself; images drawn so that classes are even,
            "balanced"; or "unlabelled" ones.
        temperature: of distillation, and of the disagreement that "gradient" climbs.
        real: weight.
        unlabelled: weight.
        generated: weight.
        radius: of the noise of "random", "gradient" and "input_noise", in standard deviations of
            the latent space.
        length: of a step of "gradient".
        steps: of "gradient".
        bound: how far out latent points go.
        alpha: of "mixup".
        confidence: weights of generated images (`ncjax.tgt.confidence`).
        threshold: of "threshold".
        batches: "merged": all images pass the network as one batch, and batch statistics are of
            all; "separate": generated images pass on their own, normalised by themselves, and
            running statistics are those of real images.
    """

    labeler: str = ""
    generator: str = "pca"
    dim: int = 16
    fit: Literal["all", "train"] = "all"
    explore: Explore = "random"
    seeds: Seeds = "batch"
    temperature: float = 4.0
    real: float = 1.0
    unlabelled: float = 0.0
    generated: float = 1.0
    radius: float = 0.3
    length: float = 0.3
    steps: int = 3
    bound: float = 4.0
    alpha: float = 1.0
    confidence: objective.Confidence = "none"
    threshold: float = 0.5
    batches: Literal["merged", "separate"] = "separate"

    def __post_init__(self) -> None:
        for name, accepted in _CHOICES.items():
            checks.check_choice(name, getattr(self, name), accepted)
        checks.check_count("dim", self.dim, 1)
        checks.check_count("steps", self.steps, 0)
        for name in ("temperature", "bound", "alpha"):
            checks.check_range(name, getattr(self, name), 0.0, closed=False)
        for name in ("real", "unlabelled", "generated", "radius", "length", "threshold"):
            checks.check_range(name, getattr(self, name), 0.0)

    @property
    def generates(self) -> bool:
        """Whether images are generated."""
        return self.explore != "none"

    @property
    def needs_generator(self) -> bool:
        """Whether a generator makes them, or says how far they go."""
        return self.explore not in ("none", "mixup")

    @property
    def needs_unlabelled(self) -> bool:
        """Whether there must be unlabelled images."""
        return self.unlabelled > 0 or (self.generates and self.seeds == "unlabelled")


def guided(
    config: TGTConfig,
    loss: losses.Loss,
    guide: tgt.Guide | None,
    labels: np.ndarray,
    num_classes: int,
) -> Method:
    """Teacher-guided training, or one of the arms that it is compared with.

    Args:
        config: of a run.
        loss: of the labels.
        guide: the teacher; None where no step will be made.
        labels: of all training images, `[N]`.
        num_classes: K.
    """
    weights = {"real": config.real, "unlabelled": config.unlabelled}
    weights["generated"] = config.generated * config.generates
    drawn = [name for name in ("unlabelled", "generated") if weights[name]]
    seeds = _seeds(config, labels, num_classes)

    def see(batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        keys = [jax.vmap(lambda key, n=n: jax.random.fold_in(key, n))(batch.keys) for n in range(3)]
        images = {"real": batch.unit(batch.seen)}
        if "unlabelled" in drawn:
            images["unlabelled"] = batch.unit(batch.draw(_unlabelled(keys[0], labels, batch)))
        if "generated" in drawn:
            images["generated"] = explored(
                config, guide, batch.student, keys[1], *seeds(keys[2], batch)
            )
        said = {name: guide.labeler(x) for name, x in images.items() if weights[name]}
        shown = [batch.standardised(images[name]) for name in ("real", *drawn)]
        return jnp.concatenate(shown), said

    def total(logits: jax.Array, y: jax.Array, _: None, said: dict) -> tuple[jax.Array, None]:
        value = loss(logits[0], y).mean()
        for name, own in zip(("real", *drawn), logits, strict=True):
            if name in said:
                each = tgt.distillation(own, said[name], config.temperature)
                if name == "generated":
                    each *= tgt.confidence(said[name], config.confidence, config.threshold)
                value += weights[name] * each.mean()
        return value, None

    apart = config.batches == "separate" and "generated" in drawn
    views = 1 + len(drawn)
    return Method(total, views, see, together=views - 1 if apart else None)


def explored(
    config: TGTConfig,
    guide: tgt.Guide,
    student: Callable[[Any], jax.Array],
    keys: jax.Array,
    seeds: jax.Array,
    labels: jax.Array | None,
) -> jax.Array:
    """Generated images, `[B, ...]`, between 0 and 1 as far as the generator keeps to that.

    Args:
        config: how to explore.
        guide: the teacher.
        student: that "gradient" looks at.
        keys: `[B]`.
        seeds: images; for "mixup" two for each, `[2 B, ...]`.
        labels: of the seeds, None if unknown.
    """
    if config.explore == "mixup":
        return tgt.mixup(keys, *jnp.split(seeds, 2), alpha=config.alpha)
    if labels is None and hasattr(guide.generator, "given"):
        labels = guide.labeler(seeds).argmax(-1)
    generator = given(guide.generator, labels)
    if config.explore == "prior":
        return tgt.prior(keys, generator).x
    around = {"radius": config.radius, "bound": config.bound}
    if config.explore == "input_noise":
        return tgt.input_noise(keys, seeds, generator, **around)
    if config.explore == "random":
        return tgt.random(keys, seeds, generator, **around).x
    climb = {"length": config.length, "steps": config.steps, "temperature": config.temperature}
    return tgt.gradient(keys, seeds, generator, student, guide.labeler, **around, **climb).x


def _seeds(
    config: TGTConfig, labels: np.ndarray, num_classes: int
) -> Callable[[jax.Array, Batch], tuple[jax.Array, jax.Array | None]]:
    """Of keys and a batch, the seeds between 0 and 1, and their labels if known.

    "mixup" gets partners after them, drawn from the same images.
    """
    even = balanced(labels, num_classes)
    uniform = _uniform(len(labels))

    def find(keys: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array | None]:
        pairs = [keys]
        if config.explore == "mixup":
            pairs.append(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys))
        if config.seeds == "unlabelled":
            rows = jnp.concatenate([_unlabelled(each, labels, batch) for each in pairs])
            return batch.unit(batch.draw(rows)), None
        if config.seeds == "balanced":
            rows = jnp.concatenate([even(each) for each in pairs])
            return batch.unit(batch.draw(rows)), jnp.asarray(labels)[rows]
        images, own = batch.unit(batch.seen), batch.labels
        if config.explore == "mixup":
            images = jnp.concatenate([images, batch.unit(batch.draw(uniform(pairs[1])))])
        return images, own

    return find


def balanced(labels: np.ndarray, num_classes: int) -> Callable[[jax.Array], jax.Array]:
    """A function that draws rows by their keys: a class first, evenly, then one of its examples.

    Args:
        labels: of all examples, `[N]`.
        num_classes: K; classes without an example are not drawn.
    """
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=num_classes)
    present = np.flatnonzero(counts)
    starts = np.cumsum(counts) - counts

    def one(key: jax.Array) -> jax.Array:
        of_class, within = jax.random.split(key)
        k = jnp.asarray(present)[jax.random.randint(of_class, (), 0, len(present))]
        place = jax.random.randint(within, (), 0, jnp.asarray(counts)[k])
        return jnp.asarray(order)[jnp.asarray(starts)[k] + place]

    return jax.vmap(one)


def _uniform(count: int, first: int = 0) -> Callable[[jax.Array], jax.Array]:
    return jax.vmap(lambda key: first + jax.random.randint(key, (), 0, count))


def _unlabelled(keys: jax.Array, labels: np.ndarray, batch: Batch) -> jax.Array:
    return _uniform(batch.count - len(labels), len(labels))(keys)
