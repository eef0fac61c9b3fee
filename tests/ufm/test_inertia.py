import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError
from tests.ufm.conftest import dense, make, points

SIZES = [(2, 3, 2), (3, 2, (1, 3, 2)), (4, 6, 3), (4, 3, (5, 1, 2, 2))]


@pytest.mark.parametrize(
    ("loss", "size"),
    [
        ("cross_entropy", SIZES[0]),
        ("cross_entropy", SIZES[1]),
        ("label_smoothing", SIZES[3]),
        ("focal", SIZES[2]),
        ("focal", SIZES[3]),
        ("mse", SIZES[2]),
    ],
)
def test_counts_equal_those_of_the_dense_spectrum(loss, size):
    problem = make(loss, size)
    shifts = jnp.array([-0.3, -1e-2, -1e-5, 1e-5, 3e-3, 0.02, 0.4])
    batch = points(problem)
    over_shifts = jax.vmap(lambda p, t: ufm.count_below(p, problem, t), in_axes=(None, 0))
    counted = jax.vmap(over_shifts, in_axes=(0, None))(batch, shifts)
    eigenvalues = dense(batch, problem)
    expected = (eigenvalues[:, None, :] < np.asarray(shifts)[None, :, None]).sum(-1)
    np.testing.assert_array_equal(counted, expected)


@pytest.mark.parametrize(
    ("loss", "size"), [("cross_entropy", (4, 6, 3)), ("focal", (3, 5, (1, 3, 2)))]
)
def test_a_compact_point_counts_as_its_whole(loss, size):
    problem = make(loss, size)
    compact = ufm.init(jax.random.key(3), problem, 1.5, compact=True)
    compact = ufm.Params(compact.W[:, :2], compact.H[:, :2], compact.b + 0.1)
    whole = ufm.expand(compact, problem)
    eigenvalues = dense(jax.tree.map(lambda leaf: leaf[None], whole), problem)[0]
    for shift in (-0.1, -1e-3, 1e-9, 0.05):
        expected = (eigenvalues < shift).sum()
        assert ufm.count_below(compact, problem, shift) == expected
        assert ufm.count_below(whole, problem, shift) == expected
    traced = dataclasses.replace(problem, samples_per_class=jnp.asarray(size[2]))
    assert ufm.count_below(compact, traced, -1e-3) == (eigenvalues < -1e-3).sum()
    np.testing.assert_allclose(
        ufm.eigenvalue(compact, problem, 4), eigenvalues[4], atol=1e-8 * eigenvalues[-1]
    )


def test_inertia_at_the_minimiser_counts_the_rotations_as_zeros():
    problem = ufm.Problem(4, 6, 3, "cross_entropy", 5e-3, 1e-3, 1e-2)
    counts = ufm.inertia(ufm.minimizer(problem).params, problem)
    assert counts.negative == 0
    assert counts.zero == 3 * 2 // 2 + 3 * 3  # within the range of W, and out of it
    assert counts.negative + counts.zero + counts.positive == 4 * 7 + 12 * 6


@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name():
    problem = make("mse", (4, 6, 3))
    params = ufm.init(jax.random.key(0), problem)
    with pytest.raises(InputError, match="`shift`"):
        ufm.count_below(params, problem, float("nan"))
    with pytest.raises(InputError, match="`tol`"):
        ufm.inertia(params, problem, 0.0)
    with pytest.raises(InputError, match=r"`params.H`.*\[N, d\]"):
        ufm.count_below(ufm.Params(params.W, params.H[:5], params.b), problem, 0.0)
