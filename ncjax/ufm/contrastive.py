r"""Does a loss lead to a simplex ETF? The contrastive property, tested numerically.

Following 2210.02192, a loss is called contrastive here if for some function :math:`\phi`

1. :math:`L(z, y) \ge \phi(\sum_{j \ne y} (z_j - z_y))` for all logits,
2. with equality only where all wrong logits are equal, wherever :math:`\phi` still falls,
3. :math:`\phi(t) + c |t|` has one minimiser, at some :math:`t \le 0`, for every :math:`c > 0`.

Then the best logits of the unconstrained feature model are those of a simplex ETF. With equal wrong
logits let s be the margin, the true logit less a wrong one: :math:`t = -(K-1) s`. Condition 3 says
that the loss, as a function of :math:`s \ge 0`, is strictly convex for as long as it falls: a
straight or bent piece has two minimisers at the c that is its slope.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, losses

_SAMPLES, _SCALES = 4096, (0.01, 30.0)
_SPREAD = 0.3  # of wrong logits that count as unequal
_CELLS, _LONGEST = 4000, 1e4  # of the grid of margins
_FLAT = 1e-6  # of the steepest slope
_ROUNDING = 1e-10


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Where a loss has the contrastive property, and where it fails.

    Attributes:
        num_classes: K of the test.
        symmetry_error: largest relative change of the loss when classes are renumbered.
        shift_error: largest relative change when all logits rise together.
        bound_violation: largest relative amount by which a sample lies below phi.
        least_excess: smallest relative amount by which a sample with unequal wrong logits lies
            above phi where phi falls; infinite for K = 2, which has no two wrong logits.
        witness: the logits of the worst sample for the bound, true class first, `[K]`.
        double_minima: triples (penalty, margin, margin): where the penalised bound has two
            minimisers. The penalty is per unit of margin, (K-1) c.
        smallest_beyond: least phi at negative margins, less phi(0), relative; at least 0 if the
            minimiser has t <= 0.
    """

    num_classes: int
    symmetry_error: float
    shift_error: float
    bound_violation: float
    least_excess: float
    witness: np.ndarray
    double_minima: tuple[tuple[float, float, float], ...]
    smallest_beyond: float

    @property
    def failures(self) -> tuple[str, ...]:
        """What fails, a sentence each; empty if the property holds."""
        found = {
            f"it does not treat all classes alike (by {self.symmetry_error:.2g})": (
                self.symmetry_error > _ROUNDING
            ),
            f"it changes when all logits rise together (by {self.shift_error:.2g})": (
                self.shift_error > _ROUNDING
            ),
            f"it is lower at some unequal wrong logits (by {self.bound_violation:.2g})": (
                self.bound_violation > _ROUNDING
            ),
            "it is as low at unequal wrong logits as at equal ones": (
                self.least_excess < _ROUNDING and self.bound_violation <= _ROUNDING
            ),
            "negative margins are better than none": self.smallest_beyond < -_ROUNDING,
        }
        bends = [
            f"with a penalty of {penalty:.4g} on the margin both {low:.4g} and {high:.4g} are best"
            for penalty, low, high in self.double_minima
        ]
        return (*(text for text, fails in found.items() if fails), *bends)

    @property
    def holds(self) -> bool:
        """Whether no failure was found. Numerical evidence, not a proof."""
        return not self.failures

    def __str__(self) -> str:
        if self.holds:
            return f"contrastive for K = {self.num_classes}: no failure found"
        return f"not contrastive for K = {self.num_classes}: " + "; ".join(self.failures)


def check_contrastive(
    loss: str | losses.Loss,
    num_classes: int,
    hyperparameters: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
) -> Contrastive:
    """Tests whether a loss has the contrastive property, and reports where it fails.

    Conditions 1 and 2 are tried on 4,096 random logits of scales from 0.01 to 30, condition 3 on a
    fine grid of margins, in float64.

    Args:
        loss: a name of `ncjax.losses`, or your own per-example function `(logits, labels)`.
        num_classes: K. The answer can depend on it.
        hyperparameters: keywords of the loss.
        seed: of the random logits.

    Returns:
        `Contrastive`; print it.

    Raises:
        InputError: unknown loss or hyperparameter, or fewer than two classes.

    Examples:
        >>> print(check_contrastive("cross_entropy", 10))
        contrastive for K = 10: no failure found
        >>> print(check_contrastive("focal", 100, {"gamma": 3.0}))
        not contrastive for K = 100: with a penalty of 1.163 on the
        margin both 0 and 2.372 are best
    """
    checks.check_count("num_classes", num_classes, 2)
    K, rng = num_classes, np.random.default_rng(seed)
    scales = np.geomspace(*_SCALES, _SAMPLES)[:, None]
    logits = scales * rng.normal(size=(_SAMPLES, K))
    logits -= logits.mean(1, keepdims=True)
    orders = rng.permuted(np.tile(np.arange(K), (_SAMPLES, 1)), axis=1)
    with jax.enable_x64(True):
        loss = jax.jit(losses.get(loss, **(hyperparameters or {})))
        phi = _along_equal_wrong_logits(loss, K)
        margins, values, slopes = _falling_part(phi)
        first = np.zeros(_SAMPLES, np.int32)
        renumbered = np.take_along_axis(logits, orders, 1), orders.argmin(1).astype(np.int32)
        inputs = (logits, first), renumbered, (logits + 3 * scales, first)
        at_samples, at_renumbered, raised = (np.asarray(loss(*pair)) for pair in inputs)
        below, slopes_below = phi(logits[:, 0] - logits[:, 1:].mean(1))
        beyond = phi(-margins)[0]
    unit = np.abs(at_samples) + np.abs(values).max()
    excess = (at_samples - below) / unit
    # Where the wrong logits differ and phi still falls.
    strict = (logits[:, 1:].std(1) > _SPREAD) & (slopes_below < _FLAT * slopes[0])
    return Contrastive(
        num_classes=K,
        symmetry_error=float((np.abs(at_renumbered - at_samples) / unit).max()),
        shift_error=float((np.abs(raised - at_samples) / unit).max()),
        bound_violation=float(-excess.min()),
        least_excess=float(excess[strict].min(initial=np.inf)),
        witness=logits[np.argmin(excess)],
        double_minima=_double_minima(margins, values, slopes),
        smallest_beyond=float((beyond.min() - values[0]) / np.abs(values).max()),
    )


def _along_equal_wrong_logits(
    loss: losses.Loss, num_classes: int
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """phi and its slope as functions of the margin, at logits that sum to zero."""
    direction = np.where(np.arange(num_classes) == 0, 1, 0) - 1 / num_classes
    both = jax.jit(jax.vmap(jax.value_and_grad(lambda s: loss(s * direction, jnp.asarray(0)))))
    return lambda margins: tuple(map(np.asarray, both(margins)))


def _falling_part(phi: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins from 0 to where phi has stopped falling, with its values and slopes there."""
    longest = 1.0
    while longest < _LONGEST:
        margins = np.linspace(0, longest, _CELLS + 1)
        values, slopes = phi(margins)
        flat = np.flatnonzero(slopes >= _FLAT * slopes.min())
        if len(flat):
            end = max(flat[0], 2)
            return margins[:end], values[:end], slopes[:end]
        longest *= 2
    return margins, values, slopes


def _double_minima(
    margins: np.ndarray, values: np.ndarray, slopes: np.ndarray
) -> tuple[tuple[float, float, float], ...]:
    """Edges of the convex hull from below that bridge a piece where phi is not strictly convex."""
    is_straight = slopes[1:] <= slopes[:-1] * (1 - _ROUNDING)
    if not is_straight.any():
        return ()
    corners: list[int] = []
    for i in range(len(margins)):
        while len(corners) > 1:
            a, b = corners[-2:]
            chord = values[a] + (values[i] - values[a]) * (b - a) / (i - a)
            if values[b] < chord - _ROUNDING**1.3 * np.abs(values).max():
                break
            corners.pop()
        corners.append(i)
    return tuple(
        (float((values[a] - values[b]) / (margins[b] - margins[a])), *map(float, margins[[a, b]]))
        for a, b in itertools.pairwise(corners)
        if b > a + 1 and is_straight[a:b].any()
    )
