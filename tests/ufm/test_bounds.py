import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError

CONVEX = [
    ("cross_entropy", {}),
    ("label_smoothing", {"smoothing": 0.1}),
    ("mse", {"scale": 1.0, "target": 1.0}),
    ("mse", {"scale": 3.0, "target": 2.0}),
]


@jax.jit
def bounded(keys, scales, problem):
    """The bounds of random points of several scales."""

    def one(key, scale):
        point, bias = (
            ufm.init(key, problem, scale),
            scale * jax.random.normal(jax.random.fold_in(key, 2), (4,)),
        )
        return ufm.lower_bound(ufm.Params(point.W, point.H, bias), problem)

    return jax.vmap(one)(keys, scales)


@pytest.mark.parametrize(
    ("loss", "hp", "lambda_b"),
    [(*kind, lambda_b) for kind in CONVEX for lambda_b in (0.0, 1e-9, 1e-2, 1.0)]
    + [("squared_hinge", {"margin": 2.0}, lambda_b) for lambda_b in (1e-2, 1.0)],
)
def test_no_point_is_below_the_bound_of_any_other_and_the_minimizer_attains_it(loss, hp, lambda_b):
    problem = ufm.Problem(4, 6, 3, loss, 5e-3, 2e-3, lambda_b, hp)
    best = ufm.minimizer(problem)
    keys = jax.random.split(jax.random.key(0), 50)
    scales = jnp.geomspace(1e-3, 10, 50)
    bounds = bounded(keys, scales, problem)
    assert jnp.all(jnp.isfinite(bounds))
    assert jnp.all(bounds <= best.value + 1e-12)
    assert jnp.any(bounds > 0.1 * best.value)  # not vacuous
    np.testing.assert_allclose(
        ufm.lower_bound(best.params, problem), best.value, rtol=1e-10, atol=1e-12
    )


def test_the_bound_holds_below_d_equal_k_minus_one():
    problem = ufm.Problem(5, 2, 3, "cross_entropy", 5e-3, 1e-3, 1e-2)
    found = ufm.solve(ufm.init(jax.random.key(0), problem), problem)
    wide = ufm.minimizer(ufm.Problem(5, 5, 3, "cross_entropy", 5e-3, 1e-3, 1e-2)).value
    assert (
        ufm.lower_bound(found.params, problem)
        <= wide + 1e-12
        < ufm.objective(found.params, problem)
    )


def test_losses_without_a_known_conjugate_are_refused():
    problem = ufm.Problem(4, 6, 3, "focal", 5e-3, 2e-3, 1e-2)
    assert not ufm.has_lower_bound(problem)
    with pytest.raises(InputError, match="focal.*minimizer"):
        ufm.lower_bound(ufm.init(jax.random.key(0), problem), problem)
