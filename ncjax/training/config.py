"""What a training run is asked to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp

from ncjax import checks, data, losses, models, sop
from ncjax.data import Corruption
from ncjax.data.augmentation import AUGMENTATIONS, Augmentation
from ncjax.training import guided, methods

Network = Literal[
    "mlp",
    "cnn",
    "resnet18",
    "resnet34",
    "resnet50",
    "autoencoder",
    "bag",
    "textcnn",
    "text_autoencoder",
]
NETWORKS: tuple[str, ...] = get_args(Network)
TEXT = ("bag", "textcnn", "text_autoencoder")
AUTOENCODERS = ("autoencoder", "text_autoencoder")
_CHOICES = {
    "augment": AUGMENTATIONS,
    "network": NETWORKS,
    "stem": models.STEMS,
    "head": models.HEADS,
    "norm": models.NORMS,
    "dtype": ("float32", "bfloat16"),
    "batch_norm": ("shared", "per_device"),
    "optimizer": ("sgd", "adam", "adamw", "lbfgs"),
    "decay": ("all", "features"),
    "schedule": ("cosine", "step", "constant"),
    "method": methods.NAMES,
}
_NESTED = {
    "corruption": Corruption,
    "sop": methods.SOPConfig,
    "elr": methods.ELRConfig,
    "free": methods.FreeConfig,
    "tgt": guided.TGTConfig,
    "autoencoder": methods.AutoencoderConfig,
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults bring the digits to the terminal phase in a few seconds.

    Attributes:
        dataset: "digits", a name of tensorflow-datasets as "fashion_mnist", or the path of an
            `.npz` file with `images` (or `texts`, word numbers) and `labels`.
        corruption: what is done to the training set (`ncjax.data.Corruption`).
        method: how to learn from samples (`ncjax.training.methods`): "standard", by the loss alone.
            From noisy labels, by cross entropy: "sop", sparse over-parameterisation; "elr",
            early-learning regularisation; "forward", forward correction with the corruption's true
            confusion. From unequal classes: "logit_adjustment". With a teacher: "tgt".
        sop: settings of "sop".
        elr: settings of "elr".
        tgt: settings of "tgt", teacher-guided training and distillation.
        free: settings of "free" adversarial training, off by default; epochs are then passes over
            the data, each with `replays` steps a batch, without augmentation.
        augment: "none", "crop" or "crop_flip", anew in every step; what is measured is measured on
            the images as they are.
        network: "mlp", "cnn", "resnet18", "resnet34", "resnet50"; or "autoencoder", the generator
            of teacher-guided training: of its labels a conditional one alone takes note; or, of
            texts, "bag", a mean of word vectors, "textcnn", and their own generator,
            "text_autoencoder".
        widths: dense layers of an MLP or of a network of texts; the last is the feature dimension.
        width: channels of the first stage of a CNN or autoencoder (the second has twice as many) or
            ResNet; dimensions of a word vector.
        vocabulary: word numbers that a network of texts knows.
        inner: multiplies the inner channels of ResNet-50 (2210.02192).
        stem: of a ResNet: "cifar" or "imagenet".
        feature_dim: d of a CNN (128 if None) or of an autoencoder's latent space (16 if None), or
            d = K of a ResNet as the papers make it.
        autoencoder: settings of autoencoders.
        per_stage: convolutions in a stage of a CNN.
        norm: of a CNN's or ResNet's convolutions (`ncjax.models.layers`): "batch"; "conv" or
            "conv_batch", convolutional normalisation (2103.00673), the second with batch
            normalisation after it; "spectral", "spectral_batch"; "oni_batch"; "none".
        orthogonality: weight of the penalty on convolutions that are not orthogonal (OCNN), for
            "batch" and "none".
        head: "learned", or "etf", a fixed simplex ETF.
        head_bias: whether the head has a bias.
        dtype: of the network's computation; parameters and statistics are float32.
        batch_norm: "shared": statistics of the whole batch over all devices, so that results do
            not depend on their number; "per_device": of each device's share, without
            communication, the running ones averaged.
        loss: a name of `ncjax.losses`.
        hyperparameters: of the loss, as `gamma 2.0`.
        optimizer: "sgd", "adam" (decay enters the gradient, as in the papers' code), "adamw" or
            "lbfgs" (memory 10, zoom line search on each batch; learning rate and schedule are the
            search's).
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: lambda of lambda/2 ||.||^2 in the objective.
        decay: "all": on all parameters; "features": on the head (lambda_W = lambda_b), with
            `feature_decay` on the features in place of the other parameters.
        feature_decay: lambda_H of lambda_H/2 ||H||^2 over all N training features; in a batch of B
            it weighs N/B.
        clip: largest norm of the gradient, before decay; not clipped if None.
        schedule: "cosine" to zero, "step" (times `drop` at each of `drops`), or "constant".
        drops: shares of the epochs.
        drop: factor.
        epochs: passes over the training set.
        batch_size: examples a step, over all devices together.
        evaluators: names of `ncjax.training.EVALUATORS`.
        measure_every: epochs between two measurements; before that, and at the end, epochs 1, 2,
            4, 8, ... and the last are measured too. 0: the last alone.
        checkpoint_every: epochs between two checkpoints; after ten minutes there is one anyway.
        snapshots: keep the checkpoint of every measured epoch, under `snapshots/`.
        seed: of initial weights, batch order and augmentation.
    """

    dataset: str = "digits"
    corruption: Corruption = dataclasses.field(default_factory=Corruption)
    method: methods.Name = "standard"
    sop: methods.SOPConfig = dataclasses.field(default_factory=methods.SOPConfig)
    elr: methods.ELRConfig = dataclasses.field(default_factory=methods.ELRConfig)
    tgt: guided.TGTConfig = dataclasses.field(default_factory=guided.TGTConfig)
    free: methods.FreeConfig = dataclasses.field(default_factory=methods.FreeConfig)
    augment: Augmentation = "none"
    network: Network = "mlp"
    widths: tuple[int, ...] = (256, 256, 256)
    width: int = 32
    vocabulary: int = data.VOCABULARY
    inner: float = 1.0
    stem: Literal["cifar", "imagenet"] = "cifar"
    feature_dim: int | None = None
    autoencoder: methods.AutoencoderConfig = dataclasses.field(
        default_factory=methods.AutoencoderConfig
    )
    per_stage: int = 1
    norm: models.Norm = "batch"
    orthogonality: float = 0.0
    head: Literal["learned", "etf"] = "learned"
    head_bias: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_norm: Literal["shared", "per_device"] = "shared"
    loss: str = "cross_entropy"
    hyperparameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    optimizer: Literal["sgd", "adam", "adamw", "lbfgs"] = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-3
    decay: Literal["all", "features"] = "all"
    feature_decay: float = 0.0
    clip: float | None = None
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    drops: tuple[float, ...] = (1 / 3, 2 / 3)
    drop: float = 0.1
    epochs: int = 300
    batch_size: int = 128
    evaluators: tuple[str, ...] = ("train", "test")
    measure_every: int = 10
    checkpoint_every: int = 20
    snapshots: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("widths", "drops", "evaluators"):  # lists, from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, kind in _NESTED.items():
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, kind(**getattr(self, name)))
        for name, accepted in _CHOICES.items():
            checks.check_choice(name, getattr(self, name), accepted)
        losses.get(self.loss, **self.hyperparameters)
        sizes = ("epochs", "batch_size", "checkpoint_every", "width", "vocabulary", "per_stage")
        for name in sizes:
            checks.check_count(name, getattr(self, name), 1)
        for name in ("measure_every", "seed"):
            checks.check_count(name, getattr(self, name), 0)
        if not self.widths:
            raise checks.reject("widths", "no hidden layer", "at least one width")
        for width in self.widths:
            checks.check_count("widths", width, 1)
        if self.feature_dim is not None:
            checks.check_count("feature_dim", self.feature_dim, 1)
        for name in (
            "learning_rate",
            "inner",
            "drop",
            *(["clip"] if self.clip is not None else []),
        ):
            checks.check_range(name, getattr(self, name), 0.0, closed=False)
        checks.check_range("momentum", self.momentum, 0.0, 1.0)
        for name in ("weight_decay", "feature_decay", "orthogonality"):
            checks.check_range(name, getattr(self, name), 0.0)
        checks.check_range("drops", self.drops, 0.0, 1.0, closed=False)
        if self.feature_decay and self.decay == "all":
            remedy = "Set decay='features'."
            raise checks.reject("feature_decay", self.feature_decay, "0 with decay='all'", remedy)
        self._check_norm()
        self._check_method()
        if self.free.replays and (self.augment != "none" or self.sop.consistency):
            got = f"{self.free.replays} with augmented images"
            raise checks.reject("free.replays", got, "0 unless augment is 'none'")
        if self.free.replays and (self.method == "tgt" or self.reconstructs):
            got = f"{self.free.replays} with method {self.method!r}, network {self.network!r}"
            raise checks.reject("free.replays", got, "0 for teachers and their students")

    def _check_norm(self) -> None:
        others = self.network in ("mlp", "autoencoder", *TEXT)
        if others and self.norm != "batch":
            raise checks.reject("norm", f"{self.norm!r} with network {self.network!r}", "'batch'")
        if self.orthogonality and (others or self.norm not in ("batch", "none")):
            got = f"{self.orthogonality} with network {self.network!r} and norm {self.norm!r}"
            accepted = "0 but for convolutions with norm 'batch' or 'none'"
            raise checks.reject("orthogonality", got, accepted)

    def _check_method(self) -> None:
        if self.reconstructs:
            for name, accepted in (
                ("method", ("standard",)),
                ("decay", ("all",)),
                ("optimizer", ("sgd", "adam", "adamw")),
            ):
                if getattr(self, name) not in accepted:
                    got = f"{getattr(self, name)!r} with network {self.network!r}"
                    raise checks.reject(name, got, f"one of {', '.join(accepted)}")
        if self.method == "standard":
            return
        entropy = losses.LOSSES if self.method == "tgt" else ("cross_entropy",)
        for name, accepted in (("loss", entropy), ("optimizer", ("sgd", "adam", "adamw"))):
            if getattr(self, name) not in accepted:
                got = f"{getattr(self, name)!r} with method {self.method!r}"
                raise checks.reject(name, got, f"one of {', '.join(accepted)}")
        if self.method == "sop" and not self.sop.inert:
            sop.check_activation(self.sop_rates.v, self.batch_size, self.epochs)

    @property
    def sop_rates(self) -> sop.Rates:
        """Learning rates of u and v."""
        default = sop.suggested(self.batch_size, self.epochs)
        given = {"u": self.sop.lr_u, "v": self.sop.lr_v}
        given = {name: rate for name, rate in given.items() if rate is not None}
        return dataclasses.replace(default, **given)

    @property
    def sop_activation(self) -> str:
        """When SOP's v switches on, in words."""
        rates = self.sop_rates
        after = sop.activation_epochs(rates.v, self.batch_size)
        return (
            f"SOP: with lr_v {rates.v:.4g} (lr_u {rates.u:.4g}) and batches of {self.batch_size}, "
            f"v switches on after about {after:.1f} of {self.epochs} epochs"
        )

    @property
    def reconstructs(self) -> bool:
        """Whether the network is an autoencoder, which has no head."""
        return self.network in AUTOENCODERS

    def measured(self, epoch: int) -> bool:
        """Whether the network is measured after this epoch (counted from 1)."""
        if epoch == self.epochs or not self.measure_every:
            return epoch == self.epochs
        early = epoch < self.measure_every and epoch & (epoch - 1) == 0
        return early or epoch % self.measure_every == 0

    def model(
        self,
        num_classes: int,
        axis_name: str | None = None,
        convolution: models.Convolution = "native",
        shape: tuple[int, ...] = (),
    ) -> nn.Module:
        """The network.

        Args:
            num_classes: K.
            axis_name: over which batch statistics are shared, if they are to be.
            convolution: how to convolve, "native" for curvature (`ncjax.models.convolutions`).
            shape: of an input, for an autoencoder.
        """
        common = {
            "head": self.head,
            "head_bias": self.head_bias,
            "dtype": jnp.dtype(self.dtype),
            "axis_name": axis_name if self.batch_norm == "shared" else None,
        }
        if self.network == "autoencoder":
            return self._autoencoder(num_classes, common["axis_name"], convolution, shape)
        if self.network == "text_autoencoder":
            sizes = (self.vocabulary, *shape, self.feature_dim or 16, self.width)
            return models.TextAutoencoder(num_classes, *sizes)
        if self.network == "mlp":
            return models.MLP(num_classes, self.widths, **common)
        if self.network in TEXT:
            del common["dtype"]
            reader = "bag" if self.network == "bag" else "convolution"
            sizes = (self.vocabulary, self.width, self.widths, reader)
            return models.TextClassifier(num_classes, *sizes, **common)
        common |= {"convolution": convolution, "norm": self.norm}
        if self.network == "cnn":
            channels = (self.width, 2 * self.width)
            common["per_stage"] = self.per_stage
            return models.CNN(num_classes, channels, self.feature_dim or 128, **common)
        sizes = {"width": self.width, "inner": self.inner, "feature_dim": self.feature_dim}
        depth = int(self.network.removeprefix("resnet"))
        return models.ResNet(num_classes, depth, stem=self.stem, **sizes, **common)

    def _autoencoder(
        self,
        num_classes: int,
        axis_name: str | None,
        convolution: models.Convolution,
        shape: tuple[int, ...],
    ) -> nn.Module:
        if len(shape) not in (2, 3):
            accepted = "another one unless the inputs are images, [H, W] or [H, W, C]"
            raise checks.reject("network", f"'autoencoder' for inputs of {shape}", accepted)
        return models.Autoencoder(
            num_classes,
            (*shape, 1)[:3],
            self.feature_dim or 16,
            self.width,
            variational=self.autoencoder.divergence > 0,
            conditional=self.autoencoder.conditional,
            axis_name=axis_name,
            convolution=convolution,
        )
