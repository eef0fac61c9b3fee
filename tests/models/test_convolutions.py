import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ncjax import models
from ncjax.models import convolutions


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("size", "stride", "padding", "channels"),
    [
        (3, 1, 1, 5),
        (3, 1, 1, 2),
        (3, 2, 1, 5),
        (1, 1, 0, 5),
        (1, 2, 0, 5),
        (7, 2, 3, 3),
        (2, 1, "VALID", 5),
        (3, 2, "SAME", 5),
    ],
)
def test_values_and_gradients_are_those_of_lax(monkeypatch, size, stride, padding, channels):
    monkeypatch.setattr(convolutions, "_CHUNK", 20_000)  # several chunks
    x = jax.random.normal(jax.random.key(0), (6, 9, 8, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, 4))
    pads = padding if isinstance(padding, str) else ((padding,) * 2,) * 2

    def total(convolve, x, kernel):
        settings = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return jnp.sin(convolve(x, kernel, (stride, stride), pads, **settings)).sum()

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *args, f=f: total(f, *args), (0, 1)))(x, kernel)
        for f in (models.convolve, lax.conv_general_dilated)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_grouped_convolutions_are_left_to_lax():
    conv = nn.Conv(4, (3, 3), feature_group_count=2, conv_general_dilated=models.convolve)
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 2))
    variables = conv.init(jax.random.key(1), x)
    same = nn.Conv(4, (3, 3), feature_group_count=2)
    np.testing.assert_array_equal(conv.apply(variables, x), same.apply(variables, x))


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_pooling_is_max_pooling(window, stride, padding):
    x = jax.random.normal(jax.random.key(0), (3, 7, 8, 2))
    pads = ((padding,) * 2,) * 2
    expected = nn.max_pool(x, (window, window), (stride, stride), pads)
    np.testing.assert_array_equal(models.max_pool(x, window, stride, padding), expected)


def test_a_network_trains_alike_with_either_convolution_also_under_vmap():
    x = jax.random.normal(jax.random.key(0), (8, 12, 12, 1))
    native, product = (models.CNN(3, (4, 6), 5, convolution=c) for c in ("native", "product"))
    keys = jax.random.split(jax.random.key(1), 2)
    variables = jax.jit(jax.vmap(lambda key: native.init(key, x)))(keys)

    def slope(model, variables):
        def loss(params):
            (logits, _), _ = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.square(logits).sum()

        return jax.grad(loss)(variables["params"])

    ours, theirs = (
        jax.jit(jax.vmap(lambda v, model=model: slope(model, v)))(variables)
        for model in (product, native)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * float(abs(other).max()))


def test_training_here_takes_products_on_a_cpu():
    assert models.fastest() == ("product" if jax.default_backend() == "cpu" else "native")
