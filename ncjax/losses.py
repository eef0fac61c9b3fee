r"""The losses of the three neural-collapse papers: one value per example, any leading axes.

With logits :math:`z \in R^K` and true class :math:`y` (2105.02375, 2203.01238, 2210.02192):

=================  ================================================================================
cross entropy      :math:`-\log p_y`, :math:`p = \mathrm{softmax}(z)`
label smoothing    :math:`-\sum_j t_j \log p_j`, :math:`t = (1 - \alpha) e_y + \alpha / K`
focal              :math:`-(1 - p_y)^\gamma \log p_y`
(rescaled) MSE     :math:`\frac12 [\kappa (z_y - M)^2 + \sum_{j \ne y} z_j^2]`
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


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "focal": focal,
    "mse": mse,
}


def get(name: str | Loss, **hyperparameters: Scalar) -> Loss:
    """Looks a loss up by name and fixes its hyperparameters.

    Args:
        name: a key of `LOSSES`, or any function `(logits, labels, **hyperparameters)` of your own.
        **hyperparameters: keywords of that loss; numbers or (traced) scalars.

    Returns:
        A function `(logits, labels) -> values` per example.

    Raises:
        InputError: unknown name (with the nearest one), or a hyperparameter that the loss does not
            have or that is out of its range.
    """
    if callable(name):
        return functools.partial(name, **hyperparameters)
    checks.check_choice("loss", name, LOSSES)
    known = set(inspect.signature(LOSSES[name]).parameters) - {"logits", "labels"}
    for keyword in hyperparameters:
        if keyword not in known:
            accepted = f"one of {sorted(known)}" if known else "absent: this loss has none"
            raise checks.reject(f"hyperparameters of {name}", repr(keyword), accepted)
        _check_hyperparameter(keyword, hyperparameters[keyword])
    return functools.partial(LOSSES[name], **hyperparameters)


def _check_hyperparameter(name: str, value: Scalar) -> None:
    if name == "smoothing":
        checks.check_range(name, value, 0.0, 1.0)
    else:
        checks.check_range(name, value, 0.0, closed=name == "gamma")


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
