import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import landscape_thresholds as thresholds
from ncjax import losses


@pytest.mark.usefixtures("x64")
def test_focal_loses_convexity_below_the_probability_that_is_derived():
    for gamma in (1.0, 3.0):
        safe = thresholds.least_convex_probability(gamma)
        assert 0.04 < safe < 0.06
        for p, is_convex in [(1.02 * safe, True), (0.98 * safe, False)]:
            logits = jnp.log(jnp.array([p, (1 - p) / 3, (1 - p) / 3, (1 - p) / 3]))
            hessian = jax.hessian(lambda z, gamma=gamma: losses.focal(z, 0, gamma))(logits)
            assert (jnp.linalg.eigvalsh(hessian)[0] > -1e-12) == is_convex


@pytest.mark.usefixtures("x64")
def test_found_points_lie_on_the_curves():
    common, convexity, classes = (
        thresholds.PANELS[name](thresholds.PRESETS["smoke"])
        for name in ("common_component", "focal_convexity", "contrastive_classes")
    )
    assert (common["verdict"] == "global_minimizer").all()
    np.testing.assert_allclose(common["common"], common["theory_common"], atol=1e-9)
    assert {0} < set(common["theory_common"].round(3))
    assert (convexity.loc[convexity["p"] >= convexity["safe"], "smallest"] > -1e-12).all()
    assert (classes["measured"] == np.floor(classes["theory"] + 1e-9)).all()
