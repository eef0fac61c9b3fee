import jax.numpy as jnp

from ncjax import models


def test_the_classifier_is_given_with_one_row_a_class():
    params = {"head": {"kernel": jnp.ones((5, 3)), "bias": jnp.zeros(3)}}
    W, b = models.classifier(params)
    assert (W.shape, b.shape) == ((3, 5), (3,))
