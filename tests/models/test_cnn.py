import jax
import jax.numpy as jnp
import numpy as np

from ncjax import models


def test_stages_halve_the_image_and_features_are_those_the_head_sees():
    model = models.CNN(3, channels=(4, 6), feature_dim=5)
    x = jax.random.normal(jax.random.key(0), (2, 12, 12))
    variables = model.init(jax.random.key(1), x)
    (logits, features), seen = model.apply(variables, x, mutable=["intermediates"])
    shapes = [seen["intermediates"][f"stage_{i}"][0].shape for i in range(2)]
    assert shapes == [(2, 12, 12, 4), (2, 6, 6, 6)]
    W, b = models.classifier(variables)
    np.testing.assert_allclose(logits, features @ W.T + b[None, :], rtol=1e-5, atol=1e-6)
    assert variables["params"]["Dense_0"]["kernel"].shape == (3 * 3 * 6, 5)
    assert features.min() >= 0


def test_bfloat16_computes_in_half_and_keeps_parameters_whole():
    model = models.CNN(3, (4,), 5, dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 2))
    variables = model.init(jax.random.key(1), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    whole = models.CNN(3, (4,), 5).apply(variables, x)[0]
    half = model.apply(variables, x)[0]
    assert half.dtype == jnp.float32
    assert 0 < abs(half - whole).max() < 0.1 * abs(whole).max()
