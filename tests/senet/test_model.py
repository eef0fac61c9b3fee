import jax
import jax.numpy as jnp
import numpy as np

from ncjax.senet import SelfExpressiveNet
from ncjax.senet.model import coefficients, initial_parameters

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(7, 5)).astype("f4")


def embedded(model):
    params = initial_parameters(model, jax.random.key(0), 5)
    assert set(params) == {"query", "key", "offset"}
    return model.apply({"params": params}, INPUTS)


def test_the_tied_start_is_a_small_similarity_and_the_official_one_neither():
    queries, keys = embedded(SelfExpressiveNet((16, 16), 9, "tied"))
    np.testing.assert_array_equal(queries, keys)
    other, theirs = embedded(SelfExpressiveNet((16, 16), 9, "official"))
    assert np.abs(other - theirs).max() > 0.1
    assert np.abs(other).max() <= 1
    assert np.abs(queries).mean() < 0.3 * np.abs(other).mean()


def test_the_papers_network_has_its_number_of_parameters():
    model = SelfExpressiveNet()
    shapes = jax.eval_shape(lambda key: initial_parameters(model, key, 64), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 6_430_721


def test_coefficients_are_thresholded_products_over_p():
    queries, keys = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 1.0], [-2.0, 0.0], [0.0, 0.1]])
    found = coefficients(queries, keys, 0.5)
    np.testing.assert_allclose(found, [[(3 - 0.5) / 2, -(2 - 0.5) / 2, 0]])
