import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import attacks, losses
from ncjax.checks import InputError

RNG = np.random.default_rng(0)
W = RNG.normal(size=(5, 3)).astype(np.float32)
X = RNG.random((40, 5)).astype(np.float32)


def logits(x):
    return jnp.asarray(x) @ W


LABELS = np.asarray(logits(X).argmax(-1))


def loss(x, y):
    return losses.cross_entropy(logits(x), y)


def test_a_linear_loss_is_raised_as_far_as_it_can_be():
    def linear(x, _):
        return jnp.asarray(x) @ W[:, 0]

    best = np.clip(X + 0.1 * np.sign(W[:, 0]), 0, 1)
    for attack in (attacks.fgsm(0.1), attacks.Attack(0.1, 0.03, 10, restarts=2)):
        np.testing.assert_allclose(attacks.perturbed(linear, X, LABELS, attack), best, atol=1e-6)


def test_attacks_stay_near_and_in_bounds_and_never_lower_the_loss():
    for attack in (attacks.fgsm(0.2), attacks.Attack(0.2, 0.05, 5, 3)):
        found = attacks.perturbed(loss, X, LABELS, attack, jax.random.key(1))
        assert np.abs(found - X).max() <= 0.2 + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1
        assert (loss(found, LABELS) >= loss(X, LABELS)).all()


def test_more_steps_and_starts_raise_it_further():
    def wavy(x, y):
        return jnp.sin(20 * jnp.asarray(x)).sum(-1) + loss(x, y)

    def mean(attack):
        return wavy(attacks.perturbed(wavy, X, LABELS, attack), LABELS).mean()

    one, many = attacks.Attack(0.2, 0.02, 20, 1), attacks.Attack(0.2, 0.02, 20, 8)
    assert mean(attacks.fgsm(0.2)) < mean(one) < mean(many)


def test_what_is_left_of_accuracy_does_not_depend_on_batches_of_fgsm():
    clean = attacks.robust_accuracy(logits, losses.cross_entropy, X, LABELS, attacks.fgsm(0.0))
    assert clean == 1
    found = [
        attacks.robust_accuracy(
            logits, losses.cross_entropy, X, LABELS, attacks.fgsm(0.1), batch_size=size
        )
        for size in (7, 40)
    ]
    assert found[0] == found[1] < 1
    # Right where the margin of every other class survives the best change.
    margins = W.T[LABELS][:, None] - W.T[None]
    least = np.einsum("ncd,nd->nc", margins, X) - 0.1 * np.abs(margins).sum(-1)
    least[np.arange(40), LABELS] = np.inf
    assert (least.min(1) > 0).mean() <= found[0]  # without bounds on inputs


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: attacks.Attack(epsilon=-1.0), "epsilon"),
        (lambda: attacks.Attack(steps=0), "steps"),
        (lambda: attacks.Attack(low=1.0), "low"),
        (
            lambda: attacks.robust_accuracy(
                logits, losses.cross_entropy, 2 * X, LABELS, attacks.PGD
            ),
            "x",
        ),
        (
            lambda: attacks.robust_accuracy(
                logits, losses.cross_entropy, X, LABELS[1:], attacks.PGD
            ),
            "labels",
        ),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused(call, argument):
    with pytest.raises(InputError, match=f"`{argument}`"):
        call()
