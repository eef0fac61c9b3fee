"""What a landscape sweep covers: the product of everything listed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, losses
from ncjax.ufm.bounds import CONVEX
from ncjax.ufm.newton import AIMS
from ncjax.ufm.problem import Problem


class Shape(NamedTuple):
    """What is static in one compiled program."""

    loss: str
    num_classes: int
    feature_dim: int
    samples_per_class: int | tuple[int, ...] | None
    """None where they are traced, which compact points allow."""
    balanced: bool
    compact: bool
    aim: str


@dataclasses.dataclass(frozen=True)
class Grid:
    """The product of everything listed is swept: each loss with its own hyperparameters only.

    Attributes:
        losses: names from `ncjax.losses`; one of your own after `losses.register(name, function)`.
        num_classes: values of K.
        feature_dim: values of d.
        samples_per_class: values of n.
        imbalance: ratios R >= 1: the first half of the classes (rounded up) has n samples each,
            the others n / R, rounded, at least 1.
        lambda_w: weight decays of W.
        lambda_h: weight decays of H.
        lambda_b: weight decays of b.
        smoothing: of label smoothing.
        gamma: of the focal loss.
        scale: of the true class in MSE.
        target: of the true class in MSE.
        epsilon: of poly-1.
        margin: of the squared hinge.
        temperature: of logit norm.
        aims: "minimizer" (the lowest point within the rank asked for) and "critical_point" (one of
            any index, near the start).
        ranks: feature dimensions to solve in before padding; none means 0 .. K-1 (at most d).
        starts: random starts for each problem and rank.
        start_scale: typical norm of the rows of a start.
        seed: of the starts.
        dense_limit: problems of at most this many parameters get their whole Hessian spectrum too,
            as an independent check. It takes most of the time where it is taken.
    """

    losses: tuple[str, ...] = ("cross_entropy", "label_smoothing", "focal", "mse")
    num_classes: tuple[int, ...] = (4,)
    feature_dim: tuple[int, ...] = (6,)
    samples_per_class: tuple[int, ...] = (3,)
    imbalance: tuple[float, ...] = (1.0,)
    lambda_w: tuple[float, ...] = (5e-4, 5e-3)
    lambda_h: tuple[float, ...] = (5e-4, 5e-3)
    lambda_b: tuple[float, ...] = (1e-2,)
    smoothing: tuple[float, ...] = (0.1,)
    gamma: tuple[float, ...] = (3.0,)
    scale: tuple[float, ...] = (1.0,)
    target: tuple[float, ...] = (1.0,)
    epsilon: tuple[float, ...] = (1.0,)
    margin: tuple[float, ...] = (1.0,)
    temperature: tuple[float, ...] = (0.1,)
    aims: tuple[str, ...] = ("minimizer",)
    ranks: tuple[int, ...] = ()
    starts: int = 4
    start_scale: float = 1.0
    seed: int = 0
    dense_limit: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type.startswith("tuple"):
                object.__setattr__(self, field.name, _listed(field.name, getattr(self, field.name)))
        checks.check_count("seed", self.seed, 0)
        checks.check_count("starts", self.starts, 1)
        checks.check_range("start_scale", self.start_scale, 0.0, closed=False)
        for aim in self.aims:
            checks.check_choice("aims", aim, AIMS)
        for field in dataclasses.fields(self):
            if field.type == "tuple[float, ...]":
                for value in getattr(self, field.name):
                    checks.check_range(field.name, value, -1.0 if field.name == "epsilon" else 0.0)
        for ratio in self.imbalance:
            checks.check_range("imbalance", ratio, 1.0)
        for rank in self.ranks:
            checks.check_count("ranks", rank, 0)
            widest = min(*self.feature_dim, *self.num_classes)
            if rank > widest:
                accepted = f"at most the smallest feature_dim and num_classes, {widest}"
                raise checks.reject("ranks", rank, accepted)
        # Building a problem of each kind checks the rest, before anything is compiled.
        for shape, items in self.programs():
            for place in np.flatnonzero(
                items["start"] + items["requested_rank"] == min(self.ranks or (0,))
            ):
                problem_of(shape, {name: values[place] for name, values in items.items()})

    def programs(self) -> list[tuple[Shape, dict[str, np.ndarray]]]:
        """The static part and the varying quantities `[B]` of each compiled program."""
        programs = []
        for loss, K, d, balanced, aim in itertools.product(
            self.losses, self.num_classes, self.feature_dim, (True, False), self.aims
        ):
            sizes = [
                (n, max(1, round(n / ratio)))
                for n in self.samples_per_class
                for ratio in self.imbalance
                if (ratio == 1) == balanced
            ]
            for static, group in self._grouped(loss, K, d, balanced, sizes):
                # A loss that is convex in the logits has compact critical points alone.
                shape = Shape(loss, K, d, static, balanced, loss in CONVEX, aim)
                programs.append((shape, self._items(shape, group)))
        return programs

    def _grouped(
        self, loss: str, K: int, d: int, balanced: bool, sizes: list[tuple[int, int]]
    ) -> list[tuple[Any, list[tuple[int, int]]]]:
        """Class sizes that share a program: those of compact points, unless a matrix is wanted."""
        together, alone = [], []
        for size in sizes:
            static = _class_sizes(K, *size, balanced)
            samples = K * static if balanced else sum(static)
            dense = K * (d + 1) + samples * d <= self.dense_limit
            if loss in CONVEX and not dense:
                together.append(size)
            else:
                alone.append((static, [size]))
        return alone + ([(None, together)] if together else [])

    def _items(self, shape: Shape, sizes: list[tuple[int, int]]) -> dict[str, np.ndarray]:
        names = ("lambda_w", "lambda_h", "lambda_b", *hyperparameters(shape.loss))
        products = itertools.product(*(getattr(self, name) for name in names))
        ranks = self.ranks or range(min(shape.num_classes, shape.feature_dim + 1))
        columns = (*names, "samples_per_class", "minority_samples", "requested_rank", "start")
        rows = [
            (*product, *size, rank, start)
            for product, size, rank, start in itertools.product(
                products, sizes, ranks, range(self.starts)
            )
        ]
        whole = columns[len(names) :]
        return {
            name: np.array(values, int if name in whole else float)
            for name, values in zip(columns, zip(*rows, strict=True), strict=True)
        }


def hyperparameters(loss: str) -> tuple[str, ...]:
    """The hyperparameters of a loss that a grid lists; any other keeps the loss's own default."""
    checks.check_choice("losses", loss, losses.LOSSES)
    listed = {field.name for field in dataclasses.fields(Grid)}
    return tuple(name for name in losses.hyperparameters(loss) if name in listed)


def problem_of(shape: Shape, item: dict[str, Any]) -> Problem:
    """The problem of one item, whose numbers may be traced."""
    sizes = shape.samples_per_class
    if sizes is None:
        major, minor = (jnp.asarray(item[n]) for n in ("samples_per_class", "minority_samples"))
        sizes = _class_sizes(shape.num_classes, major, minor, shape.balanced)
    return Problem(
        shape.num_classes,
        shape.feature_dim,
        sizes,
        shape.loss,
        *(item[name] for name in ("lambda_w", "lambda_h", "lambda_b")),
        {name: item[name] for name in hyperparameters(shape.loss)},
    )


def _class_sizes(num_classes: int, major: Any, minor: Any, balanced: bool) -> Any:
    """n for the first half of the classes and fewer for the others; one number if balanced."""
    if balanced:
        return major
    half = -(-num_classes // 2)
    if isinstance(major, jax.Array):
        return jnp.where(np.arange(num_classes) < half, major, minor)
    return (major,) * half + (minor,) * (num_classes - half)


def _listed(name: str, values: Any) -> tuple:
    """A list, tuple or array of a grid as a tuple of plain Python values."""
    if isinstance(values, str) or not np.iterable(values):
        raise checks.reject(name, repr(values), "a list of values", f"Write ({values!r},).")
    if len(values) == 0 and name != "ranks":
        raise checks.reject(name, "an empty list", "a list of at least one value")
    return tuple(v.item() if isinstance(v, np.generic | np.ndarray) else v for v in values)
