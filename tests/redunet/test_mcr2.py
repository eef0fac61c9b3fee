import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncjax.checks import InputError
from ncjax.redunet import Dictionary, latch, mcr2_loss, rate_reduction, variational_rate_reduction
from ncjax.redunet.mcr2 import unit

pytestmark = pytest.mark.usefixtures("x64")
K, N, D = 3, 24, 6
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % K
FEATURES = RNG.normal(size=(N, D)) + 2 * RNG.normal(size=(K, D))[LABELS]
FEATURES /= np.linalg.norm(FEATURES, axis=1, keepdims=True)


def test_the_loss_is_the_negative_rate_reduction_at_unit_length():
    scaled = FEATURES * RNG.uniform(1, 9, (N, 1))
    np.testing.assert_allclose(
        mcr2_loss(scaled, LABELS, 0.5), -rate_reduction(FEATURES, LABELS, 0.5), rtol=1e-12
    )
    slope = jax.grad(lambda z: mcr2_loss(z, LABELS))(jnp.zeros((N, D)))
    assert np.isfinite(slope).all()


def test_with_all_eigenvectors_the_variational_form_is_exact():
    dictionary = latch(FEATURES, LABELS, num_classes=K, atoms_per_class=D)
    found = variational_rate_reduction(FEATURES, LABELS, dictionary, 0.5)
    np.testing.assert_allclose(found, rate_reduction(FEATURES, LABELS, 0.5), rtol=1e-10)


def test_any_other_exact_dictionary_says_less():
    """Half of each class's covariance in a basis turned at random, half in the eigenvectors."""
    exact = latch(FEATURES, LABELS, num_classes=K, atoms_per_class=D)
    own = exact.atoms.reshape(K, D, D)
    amounts = np.array([exact.amounts[k, k * D : (k + 1) * D] for k in range(K)])
    turn = np.linalg.qr(RNG.normal(size=(D, D)))[0]
    rows = turn @ (np.sqrt(amounts)[:, :, None] * own)  # of the same covariance
    places = np.eye(K)[:, :, None]
    other = Dictionary(
        jnp.asarray(rows.reshape(-1, D)),
        jnp.asarray((places * np.square(rows).sum(2)[:, None, :]).reshape(K, -1)),
    )
    found = variational_rate_reduction(FEATURES, LABELS, other, 0.5, penalty=10.0)
    best = rate_reduction(FEATURES, LABELS, 0.5)
    assert found < best - 1e-3
    unpenalised = variational_rate_reduction(FEATURES, LABELS, other, 0.5, penalty=0.0)
    np.testing.assert_allclose(found, unpenalised, rtol=1e-10)


def test_ascent_of_features_and_dictionary_raises_the_rate_reduction():
    dictionary = latch(FEATURES, LABELS, num_classes=K, atoms_per_class=2)
    optimizer = optax.adam(0.05)

    def objective(point):
        return -variational_rate_reduction(unit(point[0]), LABELS, point[1])

    @jax.jit
    def step(point, state):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jax.grad(objective)(point), state, point)
            return optax.apply_updates(point, updates), state

    point = (jnp.asarray(FEATURES), dictionary)
    state = optimizer.init(point)
    for _ in range(100):
        point, state = step(point, state)
    before, after = (-mcr2_loss(features, LABELS) for features in (FEATURES, point[0]))
    assert after > 1.4 * before


def test_what_is_refused():
    with pytest.raises(InputError, match=r"`atoms_per_class`.*at most 6"):
        latch(FEATURES, LABELS, num_classes=K, atoms_per_class=7)
    dictionary = latch(FEATURES[:, :4], LABELS, num_classes=K, atoms_per_class=2)
    with pytest.raises(InputError, match=r"`dictionary.atoms`"):
        variational_rate_reduction(FEATURES, LABELS, dictionary)
    with pytest.raises(InputError, match="`eps`"):
        mcr2_loss(FEATURES, LABELS, 0.0)
