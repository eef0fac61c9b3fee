import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError

PROBLEM = (4, 6, 3, "cross_entropy", 5e-3, 2e-3, 1e-2)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("compact", [True, False])
def test_a_critical_point_is_zero_outside_its_dimensions_and_stationary_in_all(loss, compact):
    problem = ufm.Problem(4, 6, 3, loss, 5e-3, 2e-3, 1e-2)
    found = ufm.critical_point(jax.random.key(0), problem, 2, compact=compact)
    assert found.converged
    assert found.params.H.shape == ((4, 4) if compact else (12, 6))
    np.testing.assert_array_equal(found.params.W[:, 2:], 0)
    np.testing.assert_array_equal(found.params.H[:, 2:], 0)
    gradient = jax.grad(ufm.objective)(found.params, problem)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)) < 1e-10


def test_bad_settings_are_refused():
    problem = ufm.Problem(*PROBLEM)
    with pytest.raises(InputError, match="`rank`"):
        ufm.critical_point(jax.random.key(0), problem, 5)
    with pytest.raises(InputError, match="`scale`"):
        ufm.critical_point(jax.random.key(0), problem, 2, scale=-1.0)
