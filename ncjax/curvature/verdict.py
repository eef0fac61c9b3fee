"""What can be concluded about a point, each conclusion with its meaning and a remedy."""

from __future__ import annotations

import enum


class Verdict(enum.IntEnum):
    """A conclusion about a point; an integer, so that it passes through `jit` and `vmap`.

    The first four follow from first and second derivatives alone. The others need knowledge of the
    whole landscape, or of its symmetries, and are issued by `ncjax.ufm` only.

    Examples:
        >>> Verdict(0)
        <Verdict.STRICT_SADDLE: 0>
        >>> Verdict.NOT_CRITICAL.label
        'not_critical'
    """

    STRICT_SADDLE = 0
    NO_NEGATIVE_CURVATURE_FOUND = 1
    NOT_CRITICAL = 2
    INCONCLUSIVE = 3
    GLOBAL_MINIMIZER = 4
    SYMMETRIC_MINIMUM = 5
    LOCAL_MINIMUM = 6

    @property
    def label(self) -> str:
        """The name in lower case, as tables and the command line show it."""
        return self.name.lower()

    @property
    def explanation(self) -> str:
        """What the verdict says, what it does not, and what to do about it."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Verdict.STRICT_SADDLE: (
        "The gradient is small and a unit direction v has v'Hv < 0 beyond the tolerance, so the "
        "smallest eigenvalue of the Hessian is negative. Step along v to leave."
    ),
    Verdict.NO_NEGATIVE_CURVATURE_FOUND: (
        "The gradient is small and the search found no negative curvature. This does not prove a "
        "minimum: search longer, or examine the whole spectrum."
    ),
    Verdict.NOT_CRITICAL: (
        "The gradient is too large for curvature to say anything about a critical point. "
        "Optimise further, or raise the gradient tolerance knowingly."
    ),
    Verdict.INCONCLUSIVE: (
        "The gradient is small, but the numbers at hand decide neither for a saddle nor for a "
        "minimiser. Solve to a smaller gradient, take more steps, or look at the dense spectrum."
    ),
    Verdict.GLOBAL_MINIMIZER: (
        "The loss is convex in the logits and the objective lies above a rigorous lower bound by "
        "no more than the tolerance: no point is better by more than that."
    ),
    Verdict.SYMMETRIC_MINIMUM: (
        "The loss has no convex lower bound here (focal, or a loss of your own). The point is "
        "critical, has no escape direction of the known kind, and attains the least value among "
        "symmetric configurations. This is evidence for a global minimum, not a proof of one."
    ),
    Verdict.LOCAL_MINIMUM: (
        "The gradient is small, no eigenvalue of the Hessian is negative, and no more of them are "
        "zero than the symmetries of the model demand: a minimum of its neighbourhood, strict up "
        "to these symmetries. Whether a better one is elsewhere is open."
    ),
}
