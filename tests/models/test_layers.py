import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import models
from ncjax.models.heads import NAME
from ncjax.models.layers import PENALTIES, Layer

X = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
NETWORKS = {
    "cnn": lambda norm: models.CNN(3, (4,), 5, norm=norm, per_stage=2),
    "resnet": lambda norm: models.ResNet(3, 18, width=4, norm=norm),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("norm", "network"), [*((norm, "cnn") for norm in models.NORMS), ("conv", "resnet")]
)
def test_every_network_takes_every_norm(norm, network):
    net = NETWORKS[network](norm)
    variables = jax.jit(net.init)(jax.random.key(0), X)
    assert set(variables) <= {"params", "batch_stats"}
    assert ("batch_stats" in variables) == (norm not in ("conv", "none"))  # flax keeps u there
    rest = ["batch_stats"] if "batch_stats" in variables else []

    def loss(params):
        seen = {**variables, "params": params}
        (logits, _), new = net.apply(seen, X, train=True, mutable=[*rest, PENALTIES])
        return jnp.square(logits).sum(), (logits, new)

    slopes, (logits, new) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert logits.shape == (6, 3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes[NAME]))
    penalties = jax.tree.leaves(new.get(PENALTIES, {}))
    assert len(penalties) == (2 if norm in ("batch", "none") else 0)
    inference = jax.jit(net.apply)(variables, X)[0]
    assert np.isfinite(inference).all()


@pytest.mark.parametrize("norm", ["batch", "spectral_batch", "oni_batch"])
def test_kernels_are_normalised_as_named(norm):
    x = jnp.asarray(X)
    layer = Layer(5, 3, 1, False, jnp.float32, None, "native", norm)
    variables = layer.init(jax.random.key(0), x)
    if norm == "spectral_batch":  # whose power iteration takes a step a call
        training = layer.clone(train=True)
        for _ in range(30):
            stats = training.apply(variables, x, mutable=["batch_stats"])[1]["batch_stats"]
            variables = variables | {"batch_stats": variables["batch_stats"] | stats}
        fresh = {"BatchNorm_0": {"mean": jnp.zeros(5), "var": jnp.ones(5)}}
        variables = variables | {"batch_stats": stats | fresh}
    (kernel,) = (leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4)
    if norm == "oni_batch":
        kernel = models.newton_orthogonal(kernel)
    if norm == "spectral_batch":
        kernel = kernel / jnp.linalg.norm(kernel.reshape(-1, 5), 2)
    names = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-3, atol=1e-3)
