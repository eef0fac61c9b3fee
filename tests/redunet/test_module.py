import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.redunet import ReduNet, ReduNetModule, ShiftInvariantReduNet, lift, random_filters

RNG = np.random.default_rng(0)
LABELS = np.arange(12) % 3
VECTORS = RNG.normal(size=(12, 5)) + 2 * RNG.normal(size=(3, 5))[LABELS]
SIGNALS = RNG.normal(size=(12, 6)) + 2 * RNG.normal(size=(3, 6))[LABELS]


def test_it_begins_as_the_constructed_network():
    net = ReduNet(3, step=0.1, sharpness=20.0).fit(VECTORS, LABELS)
    module, variables = net.to_flax()
    scores, features = module.apply(variables, jnp.asarray(VECTORS, jnp.float32))
    np.testing.assert_allclose(features, net.transform(VECTORS), atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(scores), net.predict_proba(VECTORS), atol=1e-4)


@pytest.mark.parametrize("channels", [3, 8], ids=["dense", "factored"])
def test_of_signals_too_and_its_parameters_are_real(channels):
    net = ShiftInvariantReduNet(2, positions=1, channels=channels, filter_size=2, sharpness=20.0)
    net.fit(SIGNALS, LABELS)
    assert net.operators_.factored == (channels == 8)
    module, variables = net.to_flax()
    assert all(not jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(variables))
    lifted = lift(SIGNALS[..., None].astype("f4"), random_filters(0, channels, 2, 1, 1))
    scores, features = module.apply(variables, lifted)
    np.testing.assert_allclose(features, net.transform(SIGNALS), atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(scores), net.predict_proba(SIGNALS), atol=1e-4)
    shapes = jax.eval_shape(module.init, jax.random.key(0), lifted)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)


def test_gradients_reach_every_operator():
    module = ReduNetModule(2, shares=(0.3, 0.3, 0.4), sharpness=1.0)
    x = jnp.asarray(VECTORS, jnp.float32)
    variables = module.init(jax.random.key(0), x)

    def loss(variables):
        scores, features = module.apply(variables, x)
        return jnp.take_along_axis(scores, LABELS[:, None], 1).mean() + features[:, 0].mean()

    for slope in jax.tree.leaves(jax.grad(loss)(variables)):
        assert np.abs(slope).max() > 0
    x = x.at[0].set(0)  # without a direction: no NaN
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(jax.grad(loss)(variables)))
