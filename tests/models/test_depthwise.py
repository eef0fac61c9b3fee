import jax
import numpy as np
import pytest
from jax import lax

from ncjax.models.depthwise import depthwise, depthwise_fast

RNG = np.random.default_rng(0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "taps"), [((6, 5), (3, 3)), ((4, 7), (2, 5)), ((9,), (3,))])
@pytest.mark.parametrize("count", [16, 7])
def test_values_and_gradients_are_those_of_a_grouped_convolution(size, taps, count):
    x, kernel = RNG.normal(size=(count, *size, 3)), RNG.normal(size=(*taps, 3))
    names = ("NHWC", "HWIO", "NHWC") if len(size) == 2 else ("NWC", "WIO", "NWC")
    weights = RNG.normal(size=x.shape)

    def native(x, kernel):
        settings = {"dimension_numbers": names, "feature_group_count": 3}
        filters = kernel[..., None, :]
        return lax.conv_general_dilated(x, filters, (1,) * len(size), "SAME", **settings)

    for ours in (depthwise, depthwise_fast):
        np.testing.assert_allclose(ours(x, kernel), native(x, kernel), atol=1e-12)
        pairs = [
            jax.grad(lambda x, k, f=f: (weights * f(x, k)).sum(), (0, 1))(x, kernel)
            for f in (ours, native)
        ]
        for found, expected in zip(*pairs, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-12)
