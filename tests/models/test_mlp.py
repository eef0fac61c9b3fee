import jax
import jax.numpy as jnp
import numpy as np

from ncjax import models


def test_logits_are_the_heads_affine_map_of_the_features():
    model = models.MLP(num_classes=3, widths=(8, 5))
    x = jax.random.normal(jax.random.key(0), (7, 2, 2))
    variables = model.init(jax.random.key(1), x)
    logits, features = model.apply(variables, x)
    W, b = models.classifier(variables)
    assert (W.shape, b.shape, features.shape) == ((3, 5), (3,), (7, 5))
    assert features.min() >= 0
    np.testing.assert_allclose(logits, features @ W.T + b[None, :], rtol=1e-5, atol=1e-6)


def test_training_normalises_by_the_batch_and_evaluation_by_the_running_statistics():
    model = models.MLP(num_classes=2, widths=(4,))
    x = 5 + jax.random.normal(jax.random.key(0), (50, 3))
    variables = model.init(jax.random.key(1), x)
    for _ in range(100):
        (_, trained), updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
        variables = {"params": variables["params"], **updated}
    _, evaluated = model.apply(variables, x)
    np.testing.assert_allclose(trained, evaluated, atol=2e-3)
    assert jnp.abs(trained - model.apply(model.init(jax.random.key(1), x), x)[1]).max() > 1
