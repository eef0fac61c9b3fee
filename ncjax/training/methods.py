"""How a run learns from its samples: what it sees and keeps of them, and the objective.

What is kept is a pytree of arrays `[N, ...]`; a step sees and updates the rows of its batch alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, losses, sop
from ncjax.data.augmentation import strongly_augmented
from ncjax.data.wordnet import PADDING, UNKNOWN
from ncjax.parallel import AXIS
from ncjax.sop import noise, peers
from ncjax.types import AnyArray

Name = Literal["standard", "sop", "elr", "forward", "logit_adjustment", "tgt"]
NAMES: tuple[str, ...] = ("standard", "sop", "elr", "forward", "logit_adjustment", "tgt")


@dataclasses.dataclass(frozen=True)
class SOPConfig:
    """Settings of SOP (`ncjax.sop`).

    Attributes:
        lr_u: learning rate of u; one that suits batch size and epochs if None (`sop.rates`).
        lr_v: of v, likewise.
        u_gradient: "code" or "paper" (`sop.loss`).
        consistency: weight of SOP+'s term between two views, 0.9 there.
        balance: weight of its term for even classes, 0.1 there.
        inert: train even where v can't switch on in as many epochs.
    """

    lr_u: float | None = None
    lr_v: float | None = None
    u_gradient: noise.Gradient = "code"
    consistency: float = 0.0
    balance: float = 0.0
    inert: bool = False

    def __post_init__(self) -> None:
        checks.check_choice("u_gradient", self.u_gradient, noise.GRADIENTS)
        for name in ("lr_u", "lr_v"):
            if getattr(self, name) is not None:
                checks.check_range(name, getattr(self, name), 0.0, closed=False)
        for name in ("consistency", "balance"):
            checks.check_range(name, getattr(self, name), 0.0)


@dataclasses.dataclass(frozen=True)
class ELRConfig:
    """Settings of early-learning regularisation (`ncjax.sop.peers`).

    Attributes:
        weight: lambda; 3 for CIFAR-10, as we remember its code.
        memory: beta; 0.7 there.
    """

    weight: float = 3.0
    memory: float = 0.7

    def __post_init__(self) -> None:
        checks.check_range("weight", self.weight, 0.0)
        checks.check_range("memory", self.memory, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class FreeConfig:
    """Settings of "free" adversarial training (Shafahi et al. 2019, 1904.12843).

    Each batch is trained on so many times in a row, with a perturbation of the inputs that every
    one of these steps moves along the sign of its gradient, and that the next batch starts from.

    Attributes:
        replays: of each batch; 0 for training without attacks.
        epsilon: largest change of an input, and the size of its steps; inputs are between 0 and 1.
    """

    replays: int = 0
    epsilon: float = 8 / 255

    def __post_init__(self) -> None:
        checks.check_count("replays", self.replays, 0)
        checks.check_range("epsilon", self.epsilon, 0.0)


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a method may look at before the network sees a batch.

    Attributes:
        keys: of the method's own randomness, one an image, `[B]`.
        images: as the data set has them, `[B, ...]`.
        seen: the same after augmentation.
        labels: `[B]`.
        draw: `rows -> images` of the data set; unlabelled ones come after the N labelled ones.
        count: of images that can be drawn.
        inputs: what the network sees of images (`Dataset.inputs`).
        unit: images between 0 and 1 (`Dataset.unit`).
        standardised: what the network sees of images between 0 and 1.
        student: the network's logits of those, in inference mode.
    """

    keys: jax.Array
    images: jax.Array
    seen: jax.Array
    labels: jax.Array
    draw: Callable[[jax.Array], jax.Array]
    count: int
    inputs: Callable[[Any], Any]
    unit: Callable[[Any], Any]
    standardised: Callable[[Any], Any]
    student: Callable[[Any], jax.Array]


def plain(batch: Batch) -> tuple[jax.Array, None]:
    """The network sees the batch alone."""
    return batch.inputs(batch.seen), None


@dataclasses.dataclass(frozen=True)
class Method:
    """What a training step calls.

    Attributes:
        objective: `(logits [views, B, K], labels [B], own, given) -> (value, found)` of a batch and
            the rows that are its own.
        views: of the inputs that `see` returns: the batch itself, and more of the same size.
        see: `batch -> (inputs [views B, ...], given)`: what the network sees, and what the
            objective is given beside it; no gradient passes.
        together: leading views that pass the network as one batch; later ones pass on their own,
            and batch statistics do not remember them. All if None.
        init: `(key, numbers [N], K) -> samples`, what is kept of all samples at the start.
        updated: `(own, slopes, found) -> own`, with the gradient of the whole batch's mean by
            `own`.
    """

    objective: Callable[[jax.Array, jax.Array, Any, Any], tuple[jax.Array, Any]]
    views: int = 1
    see: Callable[[Batch], tuple[jax.Array, Any]] = plain
    together: int | None = None
    init: Callable[[jax.Array, np.ndarray, int], Any] = lambda *_: None
    updated: Callable[[Any, Any, Any], Any] = lambda *_: None


def standard(loss: losses.Loss) -> Method:
    """The mean of a loss; nothing is kept."""
    return Method(lambda logits, labels, *_: (loss(logits[0], labels).mean(), None))


def sparse_over_parameterisation(config: SOPConfig, rates: sop.Rates) -> Method:
    """SOP, and SOP+ where its terms have weights."""

    def see(batch: Batch) -> tuple[jax.Array, None]:
        views = batch.seen
        if config.consistency:
            views = jnp.concatenate([views, strongly_augmented(batch.keys, batch.images)])
        return batch.inputs(views), None

    def objective(
        logits: jax.Array, labels: jax.Array, own: sop.Noise, _: None
    ) -> tuple[jax.Array, None]:
        value = sop.loss(logits[0], labels, own, u_gradient=config.u_gradient).mean()
        if config.balance:
            share = noise.corrected(logits[0], labels, own).mean(0)
            value += config.balance * noise.class_balance(jax.lax.pmean(share, AXIS))
        if config.consistency:
            value += config.consistency * noise.consistency(*logits).mean()
        return value, None

    return Method(
        objective=objective,
        views=2 if config.consistency else 1,
        see=see,
        init=lambda key, numbers, K: sop.init(key, int(numbers.max()) + 1, K).rows(numbers),
        updated=lambda own, slopes, _: noise.updated(own, slopes, rates.u, rates.v),
    )


def early_learning(config: ELRConfig) -> Method:
    """ELR: running means of the predictions are kept."""

    def objective(
        logits: jax.Array, labels: jax.Array, own: jax.Array, _: None
    ) -> tuple[jax.Array, jax.Array]:
        targets = peers.early_learning_targets(own, logits[0], config.memory)
        penalty = peers.early_learning_penalty(logits[0], targets)
        value = losses.cross_entropy(logits[0], labels) + config.weight * penalty
        return value.mean(), targets

    return Method(
        objective=objective,
        init=lambda _, numbers, K: jnp.zeros((len(numbers), K), jnp.float32),
        updated=lambda _own, _slopes, found: found,
    )


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of autoencoders, which have latents of `feature_dim` (16 if None).

    Attributes:
        divergence: of images, weight of the divergence from a standard normal, beside half the
            squared error summed over pixels: the variance of a pixel that a variational autoencoder
            assumes. 0 for a plain one.
        conditional: of images: tell it the classes.
        hidden: of texts, the share of words that it does not see but has to write.
    """

    divergence: float = 0.05
    conditional: bool = False
    hidden: float = 0.1

    def __post_init__(self) -> None:
        checks.check_range("divergence", self.divergence, 0.0)
        checks.check_range("hidden", self.hidden, 0.0, 1.0)


def reconstruction(config: AutoencoderConfig, dim: int) -> Method:
    """What `ncjax.models.Autoencoder` is trained by.

    Args:
        config: settings.
        dim: of the latent space.
    """

    def see(batch: Batch) -> tuple[tuple, jax.Array]:
        images = batch.unit(batch.seen)
        noise = jax.vmap(lambda key: jax.random.normal(key, (dim,)))(batch.keys)
        return (images, batch.labels, noise), images.reshape(len(images), -1)

    def objective(
        outputs: jax.Array, _labels: jax.Array, _own: None, target: jax.Array
    ) -> tuple[jax.Array, None]:
        reconstructed, divergence = outputs[0, :, :-1], outputs[0, :, -1]
        errors = jnp.square(reconstructed - target).sum(-1) / 2
        return (errors + config.divergence * divergence).mean(), None

    return Method(objective, see=see)


def rewriting(config: AutoencoderConfig, vocabulary: int) -> Method:
    """What `ncjax.models.TextAutoencoder` is trained by: to write all words, seeing most of them.

    Args:
        config: settings.
        vocabulary: V.
    """

    def see(batch: Batch) -> tuple[jax.Array, jax.Array]:
        length = batch.seen.shape[1:]
        draws = jax.vmap(lambda key: jax.random.uniform(key, length))(batch.keys)
        hide = (draws < config.hidden) & (batch.seen != PADDING)
        return jnp.where(hide, UNKNOWN, batch.seen), batch.seen

    def objective(
        outputs: jax.Array, _labels: jax.Array, _own: None, target: jax.Array
    ) -> tuple[jax.Array, None]:
        logits = outputs[0].reshape(*target.shape, vocabulary)
        return losses.cross_entropy(logits, target).mean(), None

    return Method(objective, see=see)


def logit_adjustment(labels: np.ndarray, num_classes: int) -> Method:
    """Cross entropy of logits plus the logarithms of class frequencies (2007.07314, 2007.10740).

    The logits themselves, by which balanced test sets are judged, then learn nothing of the tail.

    Args:
        labels: of all training examples.
        num_classes: K.
    """
    counts = np.bincount(labels, minlength=num_classes)
    checks.check_all_classes_present("labels", counts)
    offset = np.log(counts / counts.sum()).astype(np.float32)
    return standard(lambda logits, y: losses.cross_entropy(logits + offset[None], y))


def forward(matrix: np.ndarray) -> Method:
    """Forward correction with a known confusion."""

    def loss(logits: AnyArray, labels: AnyArray) -> jax.Array:
        return peers.forward_corrected(logits, labels, matrix)

    return standard(loss)
