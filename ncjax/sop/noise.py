r"""Labels as predictions plus sparse errors: the parameters, the loss and its gradients.

One-hot labels y, some of them wrong, are modelled as (2202.14026)

$$ y_i \approx f(x_i) + U_i - V_i, \qquad
   U_i = u_i^2\, y_i, \quad V_i = v_i^2 \odot (1 - y_i) $$

with a number u and K numbers v a sample. A flipped label is met by U = 1 at the class that is given
and V = 1 at the true one, so that the network may stay there. From a tiny start, gradient descent
moves u and v of few samples far, of those that the network keeps contradicting.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from ncjax import checks
from ncjax.types import AnyArray, Scalar

Gradient = Literal["code", "paper"]
GRADIENTS: tuple[str, ...] = ("code", "paper")
START = 1e-8
"""Standard deviation of u and v at the start, in the paper's code."""
FLOOR = 1e-4
"""Of corrected predictions, in the paper's code."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Noise:
    """The parameters of all samples, or of some of them; float32.

    Attributes:
        u: `[N, 1]`; its square stands at the class that is given.
        v: `[N, K]`; their squares stand at all other classes.
    """

    u: Float[AnyArray, "N 1"]
    v: Float[AnyArray, "N K"]

    def rows(self, chosen: Integer[AnyArray, " B"]) -> Noise:
        """Those of some samples.

        Raises:
            InputError: row numbers that there are none of.
        """
        checks.check_range("chosen", chosen, 0, len(self.v))
        return jax.tree.map(lambda leaf: leaf[chosen], self)


def init(key: Key[Array, ""], num_samples: int, num_classes: int, scale: float = START) -> Noise:
    """The parameters at the start of training, normally distributed.

    Args:
        key: typed.
        num_samples: N.
        num_classes: K.
        scale: standard deviation; the smaller, the sparser, and the later v switches on
            (`activation_epochs`).

    Raises:
        InputError: no sample, fewer than two classes, or a scale that is not positive.
    """
    checks.check_count("num_samples", num_samples, 1)
    checks.check_count("num_classes", num_classes, 2)
    checks.check_range("scale", scale, 0.0, closed=False)
    of_u, of_v = jax.random.split(key)
    return Noise(
        u=scale * jax.random.normal(of_u, (num_samples, 1), jnp.float32),
        v=scale * jax.random.normal(of_v, (num_samples, num_classes), jnp.float32),
    )


def parts(noise: Noise, onehot: Float[AnyArray, "B K"]) -> tuple[jax.Array, jax.Array]:
    """U and V, each `[B, K]`: clip(u^2, 0, 1) at the label, clip(v^2, 0, 1) elsewhere."""
    onehot = jnp.asarray(onehot)
    return _below_one(noise.u**2) * onehot, _below_one(noise.v**2) * (1 - onehot)


def _below_one(squares: AnyArray) -> jax.Array:
    """min(x, 1), with slope 1 at 1 itself, where `updated` leaves what has grown beyond."""
    squares = jnp.asarray(squares)
    return jnp.where(squares <= 1, squares, 1)


def corrected(
    logits: Float[AnyArray, "B K"], labels: Integer[AnyArray, " B"], noise: Noise
) -> Float[Array, "B K"]:
    """Predictions of the labels, errors included: f + U - V, as a distribution.

    Gradients reach the logits and u; V is a constant here.
    """
    U, V = parts(noise, _onehot(logits, labels))
    q = jnp.maximum(jax.nn.softmax(logits) + U - jax.lax.stop_gradient(V), FLOOR)
    return jnp.clip(q / q.sum(-1, keepdims=True), FLOOR, 1)


def loss(
    logits: Float[AnyArray, "B K"],
    labels: Integer[AnyArray, " B"],
    noise: Noise,
    *,
    u_gradient: Gradient = "code",
) -> Float[Array, " B"]:
    r"""The loss of SOP for each sample, of which the network sees the cross entropy alone.

    $$ L = -\log q_y + \|h + U - V - y\|^2 $$

    with q of `corrected` and h the class that is predicted, one-hot, a constant. The first term
    moves the network and u; the second one v and, as in the official code, u. Differentiate the
    mean over the batch.

    Args:
        logits: of a batch.
        labels: that are given.
        noise: u and v of the same samples (`Noise.rows`).
        u_gradient: "code": u follows both terms; "paper": cross entropy alone (Algorithm 1).

    Raises:
        InputError: shapes that do not fit, u or v that are not float32, an unknown `u_gradient`.
    """
    _check_batch(logits, labels, noise)
    checks.check_choice("u_gradient", u_gradient, GRADIENTS)
    logits, onehot = jnp.asarray(logits), _onehot(logits, labels)
    q = corrected(logits, labels, noise)
    cross_entropy = -(onehot * jnp.log(q)).sum(-1)
    U, V = parts(noise, onehot)
    if u_gradient == "paper":
        U = jax.lax.stop_gradient(U)
    predicted = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=logits.dtype)
    return cross_entropy + jnp.square(predicted + U - V - onehot).sum(-1)


def class_balance(shares: Float[AnyArray, " K"]) -> jax.Array:
    """Of SOP+: the divergence of the batch's mean from even classes, up to a constant.

    Args:
        shares: the mean of `corrected` over the batch.
    """
    return -jnp.log(jnp.clip(jnp.asarray(shares), FLOOR, 1)).mean()


def consistency(
    logits: Float[AnyArray, "B K"], strong: Float[AnyArray, "B K"]
) -> Float[Array, " B"]:
    """Of SOP+: KL(f(x) || f(x')) of two views, the plain one, f(x), a constant.

    Args:
        logits: of the plain view.
        strong: of the strongly augmented one.
    """
    logits, strong = jnp.asarray(logits), jnp.asarray(strong)
    target = jax.lax.stop_gradient(jax.nn.log_softmax(logits))
    return (jnp.exp(target) * (target - jax.nn.log_softmax(strong))).sum(-1)


def updated(noise: Noise, gradient: Noise, lr_u: Scalar, lr_v: Scalar) -> Noise:
    """A step of gradient descent, kept within [-1, 1] as in the paper's Algorithm 1.

    Args:
        noise: u and v of some samples.
        gradient: of the batch's mean loss by them.
        lr_u: learning rate of u.
        lr_v: of v.
    """
    return Noise(
        u=jnp.clip(noise.u - lr_u * gradient.u, -1, 1),
        v=jnp.clip(noise.v - lr_v * gradient.v, -1, 1),
    )


def _onehot(logits: AnyArray, labels: AnyArray) -> jax.Array:
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def _check_batch(logits: AnyArray, labels: AnyArray, noise: Noise) -> None:
    B, K = np.shape(logits)
    checks.check_shape("labels", labels, (B,), "[B]")
    checks.check_shape("noise.u", noise.u, (B, 1), "[B, 1]")
    checks.check_shape("noise.v", noise.v, (B, K), "[B, K]")
    for name in ("u", "v"):
        dtype = jnp.result_type(getattr(noise, name))
        if dtype not in (jnp.float32, jnp.float64):
            remedy = "Their first steps are far smaller than 1e-8."
            raise checks.reject(f"noise.{name}", dtype, "float32", remedy)
