import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import frames, models


def test_the_classifier_is_given_with_one_row_a_class():
    params = {"head": {"kernel": jnp.ones((5, 3)), "bias": jnp.zeros(3)}}
    W, b = models.classifier({"params": params})
    assert (W.shape, b.shape) == ((3, 5), (3,))


@pytest.mark.parametrize("bias", [True, False])
def test_a_fixed_head_is_the_simplex_etf_and_no_parameter(bias):
    head = models.Head(4, "etf", bias)
    x = jax.random.normal(jax.random.key(0), (6, 7))
    model = models.MLP(4, (7,), head="etf", head_bias=bias)
    variables = model.init(jax.random.key(1), x)
    W, b = models.classifier(variables)
    np.testing.assert_allclose(W, frames.simplex_etf(4, 7), rtol=1e-6)
    assert np.all(np.asarray(W)[:, 4:] == 0)
    assert "kernel" not in variables["params"].get("head", {})
    assert ("head" in variables["params"]) == bias
    logits, features = model.apply(variables, x)
    np.testing.assert_allclose(logits, features @ W.T + b[None, :], rtol=1e-5, atol=1e-6)
    alone = head.init(jax.random.key(2), x)
    assert set(alone) == ({"params", "constants"} if bias else {"constants"})


def test_logits_keep_the_precision_of_the_parameters():
    head = models.Head(3)
    variables = head.init(jax.random.key(0), jnp.ones((2, 4)))
    assert head.apply(variables, jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.float32
