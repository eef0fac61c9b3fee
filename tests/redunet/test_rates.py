import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ncjax.redunet import class_coding_rate, coding_rate, rate_reduction
from tests.redunet.reference import circulant, dense_rates

pytestmark = pytest.mark.usefixtures("x64")
SHAPES = {"vectors": (7, 5), "few vectors": (4, 9), "signals": (6, 5, 2), "images": (5, 4, 3, 2)}


def case(shape: tuple, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=shape), np.arange(shape[0]) % classes


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_rates_are_those_of_all_shifts_of_the_samples(shape):
    features, labels = case(shape)
    rows, owners = circulant(features, labels)
    T = int(np.prod(shape[1:-1]))
    whole, of_classes = dense_rates(rows, owners, 0.4)
    np.testing.assert_allclose(coding_rate(features, 0.4), whole / T, rtol=1e-12)
    np.testing.assert_allclose(class_coding_rate(features, labels, 0.4), of_classes / T, rtol=1e-12)
    found = rate_reduction(features, labels, 0.4)
    np.testing.assert_allclose(found, (whole - of_classes) / T, rtol=1e-12)


def test_integers_are_taken_for_what_they_are():
    found = rate_reduction(np.eye(4, dtype=int), np.arange(4) % 2, 0.5)
    np.testing.assert_allclose(found, rate_reduction(np.eye(4), np.arange(4) % 2, 0.5))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_traced_labels_need_no_more_than_the_largest_class(shape):
    features, labels = case(shape)
    labels = np.roll(labels, 1)
    largest = int(np.bincount(labels).max())

    def slope(z, y, **settings):
        reduction = lambda z: rate_reduction(z, y, num_classes=3, **settings)  # noqa: E731
        return jax.value_and_grad(reduction)(z)

    expected = slope(jnp.asarray(features), labels)
    for most in (None, largest, largest + 1):
        found = jax.jit(lambda z, y, most=most: slope(z, y, largest_class=most))(features, labels)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, expected
        )
    exceeded = jax.jit(lambda z, y: slope(z, y, largest_class=largest - 1))(features, labels)
    assert np.isnan(exceeded[0])


def test_an_empty_class_adds_nothing():
    features, labels = case((7, 5))
    expected = class_coding_rate(features, labels)
    found = jax.jit(lambda z, y: class_coding_rate(z, y, num_classes=6))(features, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    slope = jax.grad(lambda z: class_coding_rate(z, labels, num_classes=6))(jnp.asarray(features))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_derivatives_are_right_in_features_and_precision(shape):
    features, labels = case(shape)
    reduction = jax.jit(lambda z, eps: rate_reduction(z, labels, eps))
    order = 2 if shape in (SHAPES["vectors"], SHAPES["images"]) else 1
    arguments = (jnp.asarray(features), jnp.asarray(0.4))
    check_grads(reduction, arguments, order=order, rtol=1e-5, atol=1e-5)
