import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from jax.test_util import check_grads

from ncjax import losses
from ncjax.checks import InputError

CASES = [
    ("cross_entropy", {}),
    ("label_smoothing", {"smoothing": 0.1}),
    ("focal", {"gamma": 3.0}),
    ("focal", {"gamma": 0.5}),
    ("mse", {}),
    ("mse", {"scale": 5.0, "target": 15.0}),
    ("poly1", {"epsilon": 2.0}),
    ("squared_hinge", {"margin": 1.5}),
    ("logit_norm", {"temperature": 0.5}),
    ("generalized_cross_entropy", {"power": 0.7}),
    ("generalized_cross_entropy", {"power": 1.0}),
]


def reference(name: str, logits: np.ndarray, label: int, hp: dict[str, float]) -> float:
    """The definitions of the papers, in float64 NumPy, one example at a time."""
    K, one_hot = len(logits), np.eye(len(logits))[label]
    log_p = scipy.special.log_softmax(logits)
    if name == "cross_entropy":
        return -log_p[label]
    if name == "label_smoothing":
        return -((1 - hp["smoothing"]) * one_hot + hp["smoothing"] / K) @ log_p
    if name == "poly1":
        return -log_p[label] + hp["epsilon"] * (1 - np.exp(log_p[label]))
    if name == "squared_hinge":
        short = np.maximum(0, hp["margin"] - logits[label] + logits)
        return (np.delete(short, label) ** 2).sum()
    if name == "logit_norm":
        unit = logits / np.linalg.norm(logits) / hp["temperature"]
        return -scipy.special.log_softmax(unit)[label]
    if name == "generalized_cross_entropy":
        return (1 - np.exp(log_p[label]) ** hp["power"]) / hp["power"]
    if name == "focal":
        return -((1 - np.exp(log_p[label])) ** hp["gamma"]) * log_p[label]
    weight = np.where(one_hot == 1, hp.get("scale", 1.0), 1.0)
    return 0.5 * (weight * (logits - hp.get("target", 1.0) * one_hot) ** 2).sum()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "hp"), CASES)
def test_values_are_those_of_the_papers_definitions_on_any_leading_axes(name, hp):
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(2, 3, 5)), rng.integers(0, 5, size=(2, 3))
    values = losses.get(name, **hp)(jnp.asarray(logits), jnp.asarray(labels))
    expected = [
        [reference(name, logits[i, j], labels[i, j], hp) for j in range(3)] for i in range(2)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "hp"), CASES)
def test_derivatives_of_both_orders_are_right(name, hp):
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    labels = jnp.array([0, 1, 2, 2])
    loss = jax.jit(lambda z: losses.get(name, **hp)(z, labels))
    check_grads(loss, (logits,), order=2, modes=["rev"])


@pytest.mark.parametrize(("name", "hp"), CASES)
def test_values_gradients_and_curvature_are_finite_at_extreme_logits_in_float32(name, hp):
    loss = losses.get(name, **hp)
    corners = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [-1, -1, 1]], np.float32)
    labels = jnp.zeros(4, jnp.int32)

    @jax.jit
    def all_orders(logits):
        gradient = jax.grad(lambda z: loss(z, labels).sum())(logits)
        return loss(logits, labels), gradient, jax.vmap(jax.hessian(lambda z: loss(z, 0)))(logits)

    for size in np.float32([0, 1e2, 1e4, 1e15]):
        for array in (loss(size * corners, labels), *all_orders(size * corners)):
            assert array.dtype == jnp.float32
            assert np.isfinite(array).all(), size


def test_confident_examples_keep_their_loss_and_slope_in_float32():
    # 1 - p is 2 exp(-20) = 4e-9, far below the spacing of float32 at p = 1.
    logits, wrong = jnp.array([20.0, 0.0, 0.0]), 2 * np.exp(-20.0)
    value, slope = jax.value_and_grad(losses.cross_entropy)(logits, 0)
    np.testing.assert_allclose(value, wrong, rtol=1e-4)
    np.testing.assert_allclose(slope, [-wrong, wrong / 2, wrong / 2], rtol=1e-4)
    np.testing.assert_allclose(losses.focal(logits, 0, gamma=1.0), wrong**2, rtol=1e-4)


def test_cross_entropy_and_smoothing_agree_with_optax():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(6, 4)), jnp.float32)
    labels = jnp.array([0, 1, 2, 3, 0, 1])
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, 4), 0.1)
    np.testing.assert_allclose(
        losses.label_smoothing(logits, labels), optax.softmax_cross_entropy(logits, smooth), 1e-6
    )
    np.testing.assert_allclose(
        losses.cross_entropy(logits, labels),
        optax.softmax_cross_entropy_with_integer_labels(logits, labels),
        1e-6,
    )


def test_hyperparameters_may_be_swept_by_vmap():
    logits, labels = jnp.array([1.0, 0.0, -1.0]), jnp.array(1)
    gammas = jnp.array([0.0, 1.0, 2.0])
    swept = jax.vmap(lambda g: losses.focal(logits, labels, gamma=g))(gammas)
    one_by_one = [losses.focal(logits, labels, gamma=float(g)) for g in gammas]
    np.testing.assert_allclose(swept, jnp.stack(one_by_one), rtol=1e-6)


def test_get_takes_a_function_of_ones_own():
    own = losses.get(lambda z, y, power: (z[..., 0] * y) ** power, power=2.0)
    assert own(jnp.array([3.0, 0.0]), jnp.array(1.0)) == 9.0


def test_a_registered_loss_is_known_by_its_name_and_no_name_is_taken_twice(monkeypatch):
    def own(z, y, gamma=1.0):
        return gamma * losses.cross_entropy(z, y)

    monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))
    losses.register("own", own)
    losses.register("own", own)
    assert losses.hyperparameters("own") == ("gamma",)
    z = jnp.array([1.0, 0.0])
    assert losses.get("own", gamma=3.0)(z, 0) == 3 * losses.cross_entropy(z, 0)
    with pytest.raises(InputError, match="`name`.*'mse'"):
        losses.register("mse", own)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.get("cross_entrophy"), "Did you mean 'cross_entropy'"),
        (lambda: losses.get("focal", smoothing=0.1), "smoothing"),
        (lambda: losses.cross_entropy(jnp.zeros((2, 3)), jnp.array([0, 3])), "`labels`.*0 to 3"),
        (lambda: losses.cross_entropy(jnp.zeros((2, 3)), jnp.array([0, -1])), "`labels`.*-1 to 0"),
        (lambda: losses.cross_entropy(jnp.zeros((2, 3)), jnp.array([0])), "`labels`.*shape"),
        (lambda: losses.cross_entropy(jnp.zeros((2, 1)), jnp.array([0, 0])), "`logits`.*K >= 2"),
        (lambda: losses.focal(jnp.zeros(3), 0, gamma=-1.0), "`gamma`.*at least 0"),
        (lambda: losses.label_smoothing(jnp.zeros(3), 0, smoothing=1.0), "`smoothing`"),
        (lambda: losses.mse(jnp.zeros(3), 0, scale=0.0), "`scale`.*greater than 0"),
        (lambda: losses.mse(jnp.zeros(3), 0, target=-2.0), "`target`"),
        (lambda: losses.poly1(jnp.zeros(3), 0, epsilon=-1.5), "`epsilon`.*at least -1"),
        (lambda: losses.squared_hinge(jnp.zeros(3), 0, margin=0.0), "`margin`"),
        (lambda: losses.logit_norm(jnp.zeros(3), 0, temperature=0.0), "`temperature`"),
        (lambda: losses.generalized_cross_entropy(jnp.zeros(3), 0, power=1.1), "`power`"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
def test_narrow_label_types_do_not_wrap_around(dtype):
    logits = jnp.zeros((1, 300)).at[0, 256].set(5.0)
    label = np.array([0], dtype)
    for name, loss in losses.LOSSES.items():
        wide = loss(logits, label.astype(np.int32))
        np.testing.assert_array_equal(loss(logits, label), wide, err_msg=name)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_that_cannot_be_refused_gives_nan(label):
    for name, loss in losses.LOSSES.items():
        assert jnp.isnan(jax.jit(loss)(jnp.arange(3.0), label)), name
