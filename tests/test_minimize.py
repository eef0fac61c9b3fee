import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import rosen_der

from ncjax.minimize import lbfgs

pytestmark = pytest.mark.usefixtures("x64")


def rosenbrock(point):
    x = jnp.concatenate([point["a"], point["b"]])
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def test_a_curved_valley_is_followed_to_its_end_from_several_starts_at_once():
    starts = {"a": jnp.array([[0.9], [0.5], [2.0]]), "b": jnp.ones((3, 3))}
    run = jax.vmap(lambda start: lbfgs(rosenbrock, start, 1e-9, 500))
    points, steps = run(starts)
    np.testing.assert_allclose(points["b"], 1, rtol=1e-8)
    assert (steps < 100).all()
    for a, b in zip(points["a"], points["b"], strict=True):
        assert np.linalg.norm(rosen_der(np.r_[a, b])) < 1e-9
    _, few = lbfgs(rosenbrock, jax.tree.map(lambda x: x[0], starts), 1e-9, 3)
    assert few == 3
