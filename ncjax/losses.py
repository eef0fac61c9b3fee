r"""The losses of the three neural-collapse papers, and some more: one value per example.

With logits :math:`z \in R^K` and true class :math:`y` (2105.02375, 2203.01238, 2210.02192):

=================  ================================================================================
cross entropy      :math:`-\log p_y`, :math:`p = \mathrm{softmax}(z)`
label smoothing    :math:`-\sum_j t_j \log p_j`, :math:`t = (1 - \alpha) e_y + \alpha / K`
focal              :math:`-(1 - p_y)^\gamma \log p_y`
(rescaled) MSE     :math:`\frac12 [\kappa (z_y - M)^2 + \sum_{j \ne y} z_j^2]`
=================  ================================================================================

Others that people use, for comparison (`ncjax.ufm.check_contrastive` tells which of them lead to
the same geometry):

=================  ================================================================================
poly-1             :math:`-\log p_y + \epsilon (1 - p_y)`
squared hinge      :math:`\sum_{j \ne y} \max(0, m - (z_y - z_j))^2`
logit norm         cross entropy of :math:`z / (||z|| T)`
generalised CE     :math:`(1 - p_y^q) / q`
=================  ================================================================================

The mean over examples is the caller's. Every loss is finite, with finite gradients, at extreme
logits in float32 (MSE as far as their squares are). Where a label is out of range and can't be
refused, under `jit`, the loss is NaN. Hyperparameters are keywords and may be traced, so `vmap`
sweeps them.

Examples:
    >>> import jax.numpy as jnp, numpy as np
    >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> labels = jnp.array([0, 1])
    >>> print(np.asarray(cross_entropy(logits, labels)).round(4))
    [0.2395 1.5514]
    >>> print(np.asarray(get("focal", gamma=2.0)(logits, labels)).round(4))
    [0.0109 0.9635]
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from ncjax import checks
from ncjax.types import AnyArray, Scalar

Loss = Callable[..., jax.Array]
"""A per-example loss: `(logits [..., K], labels [...]) -> [...]`."""

Logits = Float[AnyArray, "*batch K"]
Labels = Integer[AnyArray, "*batch"] | int
Values = Float[Array, "*batch"]


def cross_entropy(logits: Logits, labels: Labels) -> Values:
    r"""Cross entropy :math:`-\log p_y` (2105.02375, the loss of the unconstrained feature model).

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: shapes disagree, fewer than two classes, or a label is out of range.
    """
    return jax.nn.softplus(_log_odds_against(*_checked(logits, labels)))


def label_smoothing(logits: Logits, labels: Labels, smoothing: Scalar = 0.1) -> Values:
    r"""Cross entropy against :math:`(1 - \alpha) e_y + \alpha / K` (2210.02192).

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        smoothing: alpha in [0, 1); the default is that of the paper's runs.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `smoothing` is outside [0, 1).
    """
    _check_hyperparameter("smoothing", smoothing)
    logits, labels = _checked(logits, labels)
    excess = (_at_label(logits, labels)[..., None] - logits).mean(-1)
    return jax.nn.softplus(_log_odds_against(logits, labels)) + smoothing * excess


def focal(logits: Logits, labels: Labels, gamma: Scalar = 3.0) -> Values:
    r"""Focal loss :math:`-(1 - p_y)^\gamma \log p_y`, without class weights (2210.02192).

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        gamma: focusing exponent, at least 0 (0 is cross entropy); the default is the paper's.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `gamma` is negative.
    """
    _check_hyperparameter("gamma", gamma)
    against = _log_odds_against(*_checked(logits, labels))
    return jnp.exp(-gamma * jax.nn.softplus(-against)) * jax.nn.softplus(against)


def mse(logits: Logits, labels: Labels, scale: Scalar = 1.0, target: Scalar = 1.0) -> Values:
    r"""(Rescaled) squared error :math:`\frac12 [\kappa (z_y - M)^2 + \sum_{j \ne y} z_j^2]`.

    The papers' normalisation (2203.01238): one half, summed over classes. The authors' code
    averages over the K outputs and has no one half, so its value is 2/K of this one.

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        scale: kappa > 0, the weight of the true class.
        target: M > 0, the target of the true class.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `scale` or `target` is not positive.
    """
    _check_hyperparameter("scale", scale)
    _check_hyperparameter("target", target)
    logits, labels = _checked(logits, labels)
    is_true = _is_true_class(logits, labels)
    wrong = jnp.where(is_true, 0, jnp.square(logits)).sum(-1)
    return 0.5 * (scale * jnp.square(_at_label(logits, labels) - target) + wrong)


def poly1(logits: Logits, labels: Labels, epsilon: Scalar = 1.0) -> Values:
    r"""Poly-1 :math:`-\log p_y + \epsilon (1 - p_y)` (Leng et al. 2022, 2204.12511).

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        epsilon: at least -1 (0 is cross entropy). Up to 1 the loss is convex along equal wrong
            logits, whatever K.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `epsilon` is below -1.
    """
    _check_hyperparameter("epsilon", epsilon)
    against = _log_odds_against(*_checked(logits, labels))
    return jax.nn.softplus(against) + epsilon * jax.nn.sigmoid(against)


def squared_hinge(logits: Logits, labels: Labels, margin: Scalar = 1.0) -> Values:
    r"""Squared hinge :math:`\sum_{j \ne y} \max(0, m - (z_y - z_j))^2` (Weston and Watkins' sum).

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        margin: m > 0.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `margin` is not positive.
    """
    _check_hyperparameter("margin", margin)
    logits, labels = _checked(logits, labels)
    short = jnp.maximum(margin - _at_label(logits, labels)[..., None] + logits, 0)
    return jnp.where(_is_true_class(logits, labels), 0, jnp.square(short)).sum(-1)


def logit_norm(logits: Logits, labels: Labels, temperature: Scalar = 0.1) -> Values:
    r"""Cross entropy of logits on a sphere, :math:`z / (||z|| T)` (Wei et al. 2022, 2205.09310).

    Weight decay costs it nothing: with smaller W and H the logits keep their direction, so the
    unconstrained feature model has no minimiser under this loss.

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        temperature: T > 0.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `temperature` is not positive.
    """
    _check_hyperparameter("temperature", temperature)
    logits, labels = _checked(logits, labels)
    largest = jax.lax.stop_gradient(jnp.abs(logits).max(-1, keepdims=True))
    scaled = logits / jnp.where(
        largest > 0, largest, 1
    )  # whose squares neither vanish nor overflow
    squares = jnp.square(scaled).sum(-1, keepdims=True)
    length = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    return jax.nn.softplus(_log_odds_against(scaled / (length * temperature), labels))


def generalized_cross_entropy(logits: Logits, labels: Labels, power: Scalar = 0.7) -> Values:
    r"""Generalised cross entropy :math:`(1 - p_y^q) / q` (Zhang and Sabuncu 2018, 1805.07836).

    Between cross entropy (q to 0) and :math:`1 - p_y` (q = 1), which noisy labels mislead less: an
    example that the network is sure to be something else has next to no slope.

    Args:
        logits: `[..., K]`.
        labels: integers in 0 .. K-1, `[...]`.
        power: q in (0, 1]; the default is the one commonly used with noisy labels.

    Returns:
        One value per example, `[...]`.

    Raises:
        InputError: as `cross_entropy`, or `power` is outside (0, 1].
    """
    _check_hyperparameter("power", power)
    against = _log_odds_against(*_checked(logits, labels))
    return -jnp.expm1(-power * jax.nn.softplus(against)) / power


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "focal": focal,
    "mse": mse,
    "poly1": poly1,
    "squared_hinge": squared_hinge,
    "logit_norm": logit_norm,
    "generalized_cross_entropy": generalized_cross_entropy,
}


# Where hyperparameters may lie: least value, whether it is allowed, and what they stay below.
_RANGES = {
    "smoothing": (0.0, True, 1.0),
    "gamma": (0.0, True, math.inf),
    "epsilon": (-1.0, True, math.inf),
    "scale": (0.0, False, math.inf),
    "target": (0.0, False, math.inf),
    "margin": (0.0, False, math.inf),
    "temperature": (0.0, False, math.inf),
    "power": (0.0, False, math.nextafter(1.0, 2.0)),
}


def register(name: str, loss: Loss) -> None:
    """Makes a loss of your own known by a name, for sweeps, configs and tables.

    Args:
        name: not that of another loss. To register the same function again does nothing.
        loss: a per-example function `(logits, labels, **hyperparameters)`.

    Raises:
        InputError: the name is another loss's.
    """
    if LOSSES.setdefault(name, loss) is not loss:
        raise checks.reject("name", repr(name), "a name that no other loss has")


def hyperparameters(name: str) -> tuple[str, ...]:
    """The names of a loss's hyperparameters, in the order of its signature.

    Raises:
        InputError: unknown name.
    """
    checks.check_choice("loss", name, LOSSES)
    return tuple(inspect.signature(LOSSES[name]).parameters)[2:]


def get(name: str | Loss, **keywords: Scalar) -> Loss:
    """Looks a loss up by name and fixes its hyperparameters.

    Args:
        name: a key of `LOSSES`, or any function `(logits, labels, **hyperparameters)` of your own.
        **keywords: hyperparameters of that loss; numbers or (traced) scalars.

    Returns:
        A function `(logits, labels) -> values` per example.

    Raises:
        InputError: unknown name (with the nearest one), or a hyperparameter that the loss does not
            have or that is out of its range.
    """
    if callable(name):
        return functools.partial(name, **keywords)
    known = hyperparameters(name)
    for keyword, value in keywords.items():
        if keyword not in known:
            accepted = f"one of {sorted(known)}" if known else "absent: this loss has none"
            raise checks.reject(f"hyperparameters of {name}", repr(keyword), accepted)
        _check_hyperparameter(keyword, value)
    return functools.partial(LOSSES[name], **keywords)


def _check_hyperparameter(name: str, value: Scalar) -> None:
    if name in _RANGES:
        low, closed, high = _RANGES[name]
        checks.check_range(name, value, low, high, closed=closed)


def _checked(logits: Logits, labels: Labels) -> tuple[jax.Array, jax.Array]:
    """Both as arrays, once their shapes and (where concrete) the labels' values are right."""
    logits, labels_array = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        logits = logits.astype(jnp.zeros(()).dtype)
    if logits.ndim == 0 or logits.shape[-1] < 2:
        raise checks.reject("logits", f"shape {logits.shape}", "of shape [..., K] with K >= 2")
    if labels_array.shape != logits.shape[:-1]:
        raise checks.reject(
            "labels", f"shape {labels_array.shape}", f"of the logits' shape {logits.shape[:-1]}"
        )
    checks.check_labels("labels", labels_array, logits.shape[-1])
    # A narrow type would wrap around in comparisons with more classes than it can count.
    return logits, labels_array.astype(jnp.int32)


def _log_odds_against(logits: jax.Array, labels: jax.Array) -> jax.Array:
    r"""u = log((1 - p_y) / p_y), from which -log p_y = softplus(u), -log(1 - p_y) = softplus(-u).

    Nothing cancels when p_y rounds to one: in float32 the loss and its slope at a true logit keep
    their digits down to 1e-38, where the usual log-softmax gives 0 from 1e-8 on.
    """
    wrong = jnp.where(_is_true_class(logits, labels), -jnp.inf, logits)
    return jax.nn.logsumexp(wrong, axis=-1) - _at_label(logits, labels)


def _at_label(values: jax.Array, labels: jax.Array) -> jax.Array:
    beyond = jnp.where(labels < 0, values.shape[-1], labels)
    return jnp.take_along_axis(values, beyond[..., None], axis=-1, mode="fill", fill_value=jnp.nan)[
        ..., 0
    ]


def _is_true_class(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
