import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import models
from ncjax.models.lipschitz import layer_norms

X = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("norm", ["batch", "conv_batch"])
def test_norms_are_those_of_dense_matrices(norm):
    net = models.CNN(3, (4,), 5, norm=norm)
    variables = net.init(jax.random.key(0), X)
    # Neither the filter nor the scale as they start.
    noise = iter(jax.random.split(jax.random.key(1), 50))
    shaken = jax.tree.map(
        lambda p: p + 0.3 * jax.random.normal(next(noise), p.shape), variables["params"]
    )
    variables = {**variables, "params": shaken}
    table = layer_norms(net, variables, X, tolerance=1e-3).set_index("layer")
    assert table["converged"].all()
    dense = shaken["Dense_0"]["kernel"]
    np.testing.assert_allclose(table.loc["Dense_0", "norm"], np.linalg.norm(dense, 2), rtol=1e-3)
    if norm == "batch":
        assert list(table["kind"]) == ["Conv", "BatchNorm", "Dense", "BatchNorm", "Head"]
        scale = np.abs(shaken["BatchNorm_0"]["scale"]).max() / np.sqrt(1 + 1e-5)
        np.testing.assert_allclose(table.loc["BatchNorm_0", "norm"], scale, rtol=1e-3)
        kernel = shaken["Layer_0"]["Conv"]["kernel"]

        def layer(x):
            names = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)
    else:
        assert list(table["kind"]) == ["ConvNorm", "Dense", "BatchNorm", "Head"]
        row = table.loc["Layer_0/ConvNorm"]
        assert row["bare"] <= 2 + 1e-3  # sqrt(C_out)
        own = {name: part["Layer_0"]["ConvNorm"] for name, part in variables.items()}
        module = models.ConvNorm(4, 3, padding=1, batch_norm=True)

        def layer(x):
            return module.apply(own, x) - module.apply(own, 0 * x)

    basis = jnp.eye(72).reshape(72, 1, 6, 6, 2)
    matrix = jax.vmap(layer)(basis).reshape(72, -1)
    found = table["norm"].iloc[0]
    np.testing.assert_allclose(found, np.linalg.norm(matrix, 2), rtol=1e-3)
