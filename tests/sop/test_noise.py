"""The parameters, loss and gradients of SOP, against a literal reading of the paper's code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import sop
from ncjax.checks import InputError
from ncjax.sop.noise import Noise, class_balance, consistency, corrected, parts, updated

RNG = np.random.default_rng(0)
B, K = 7, 4
LOGITS = RNG.normal(size=(B, K)).astype(np.float32)
LABELS = RNG.integers(0, K, B)
NOISE = Noise(
    u=RNG.uniform(-0.9, 0.9, (B, 1)).astype(np.float32),
    v=RNG.uniform(-0.9, 0.9, (B, K)).astype(np.float32),
)


def by_hand(logits, y, u, v, mode):
    """Loss of one sample and its gradients by logits, u and v, a number at a time (float64)."""
    logits = np.asarray(logits, float)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    U = np.where(np.arange(K) == y, min(u**2, 1), 0)
    V = np.where(np.arange(K) == y, 0, np.minimum(v**2, 1))
    raw = p + U - V
    q = np.maximum(raw, 1e-4)
    total = q.sum()
    q = q / total
    h = np.eye(K)[logits.argmax()]
    left = h + U - V - np.eye(K)[y]
    loss = -np.log(np.clip(q[y], 1e-4, 1)) + (left**2).sum()
    # -log q_y = log(total) - log(raw_y): slopes by raw values, none where they are floored.
    slope = np.where(raw > 1e-4, 1 / total, 0)
    if raw[y] > 1e-4:
        slope[y] -= 1 / raw[y]
    if not 1e-4 < q[y] < 1:
        slope[:] = 0
    by_logits = p * (slope - (p * slope).sum())
    by_u = 2 * u * slope[y] + (4 * u * left[y] if mode == "code" else 0)
    by_v = np.where(np.arange(K) == y, 0, -4 * v * left)
    return loss, by_logits, by_u, by_v


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_loss_and_gradients_are_those_of_a_literal_reading(mode):
    def total(logits, noise):
        return sop.loss(logits, LABELS, noise, u_gradient=mode).sum()

    found, (by_logits, by_noise) = jax.value_and_grad(total, (0, 1))(LOGITS, NOISE)
    rows = zip(LOGITS, LABELS, NOISE.u[:, 0], NOISE.v, strict=True)
    expected = [by_hand(*row, mode) for row in rows]
    losses, logits, u, v = (np.stack(x) for x in zip(*expected, strict=True))
    np.testing.assert_allclose(found, losses.sum(), rtol=1e-6)
    np.testing.assert_allclose(by_logits, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_noise.u[:, 0], u, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_noise.v, v, rtol=1e-5, atol=1e-6)


def test_without_errors_it_is_cross_entropy_of_which_the_network_sees_nothing_else():
    none = jax.tree.map(lambda leaf: 0 * leaf, NOISE)
    slope = jax.grad(lambda z: sop.loss(z, LABELS, none).sum())(LOGITS)
    p = jax.nn.softmax(LOGITS)
    np.testing.assert_allclose(slope, p - jax.nn.one_hot(LABELS, K), rtol=1e-5, atol=1e-6)


def test_a_flipped_label_is_explained_by_one_at_the_label_and_one_at_the_class_predicted():
    logits, flipped = 20 * jnp.eye(K)[:1], np.array([2])
    noise = Noise(u=jnp.ones((1, 1)), v=jnp.eye(K)[:1])
    q = corrected(logits, flipped, noise)
    np.testing.assert_allclose(q[0, 2], 1, atol=1e-3)
    np.testing.assert_allclose(sop.loss(logits, flipped, noise), 0, atol=1e-3)


def test_errors_are_nowhere_else():
    onehot = jax.nn.one_hot(LABELS, K)
    U, V = parts(NOISE, onehot)
    assert (np.asarray(U)[onehot == 0] == 0).all()
    assert (np.asarray(V)[onehot == 1] == 0).all()


def test_steps_stay_within_one_and_leave_it_again():
    noise = Noise(u=jnp.full((1, 1), 0.9), v=jnp.full((1, K), -0.9))
    grown = updated(noise, jax.tree.map(lambda leaf: -jnp.sign(leaf), noise), 1.0, 1.0)
    np.testing.assert_array_equal(grown.u, [[1.0]])
    np.testing.assert_array_equal(grown.v, np.full((1, K), -1.0))
    slope = jax.grad(lambda n: sop.loss(LOGITS[:1], LABELS[:1], n).sum())(grown)
    assert np.abs(np.asarray(slope.v)).max() > 0


def test_the_start_is_tiny_and_depends_on_the_key_alone():
    noise = sop.init(jax.random.key(0), 1000, K)
    assert noise.u.shape == (1000, 1)
    assert noise.v.shape == (1000, K)
    np.testing.assert_allclose(np.std(np.asarray(noise.v)), 1e-8, rtol=0.1)
    again = sop.init(jax.random.key(0), 1000, K)
    np.testing.assert_array_equal(noise.v, again.v)
    assert not np.array_equal(noise.v, sop.init(jax.random.key(1), 1000, K).v)


def test_balance_is_least_for_even_classes_and_consistency_for_equal_views():
    even = class_balance(np.full(K, 1 / K, np.float32))
    np.testing.assert_allclose(even, np.log(K), rtol=1e-6)
    assert class_balance(np.array([0.7, 0.1, 0.1, 0.1], np.float32)) > even
    np.testing.assert_allclose(consistency(LOGITS, LOGITS), 0, atol=1e-6)
    other = LOGITS[::-1]
    p, q = jax.nn.softmax(LOGITS), jax.nn.softmax(other)
    expected = (p * (jnp.log(p) - jnp.log(q))).sum(-1)
    np.testing.assert_allclose(consistency(LOGITS, other), expected, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda z: consistency(z, other).sum())(LOGITS)
    np.testing.assert_array_equal(slope, np.zeros_like(LOGITS))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": LABELS[:-1]}, "`labels`"),
        ({"noise": jax.tree.map(lambda leaf: leaf[1:], NOISE)}, "`noise.u`"),
        ({"noise": jax.tree.map(lambda leaf: leaf.astype(np.float16), NOISE)}, "float16"),
        ({"u_gradient": "both"}, "`u_gradient`"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_unfit_input_is_refused(changed, message):
    arguments = {"logits": LOGITS, "labels": LABELS, "noise": NOISE} | changed
    with pytest.raises(InputError, match=message):
        sop.loss(**arguments)


def test_there_are_no_rows_of_samples_out_of_range():
    np.testing.assert_array_equal(NOISE.rows(np.array([2, 0])).v, NOISE.v[[2, 0]])
    for wrong in (-1, B):
        with pytest.raises(InputError, match="`chosen`"):
            NOISE.rows(np.array([0, wrong]))
