import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature, ufm
from ncjax.checks import InputError
from ncjax.curvature import Verdict
from tests.curvature.conftest import with_spectrum

pytestmark = pytest.mark.usefixtures("x64")

TINY = np.r_[-1e-3, np.zeros(40), np.linspace(0.1, 10, 40)]


def quadratic(spectrum, dtype=jnp.float64):
    A = jnp.asarray(with_spectrum(spectrum)[0], dtype)
    return lambda x: 0.5 * x @ jnp.matmul(A, x, precision="highest")


@pytest.fixture(scope="module")
def objective(problem):
    return lambda params: ufm.objective(params, problem)


@pytest.mark.parametrize(
    ("spectrum", "expected"),
    [
        ([-1.0, 0.0, 2.0], (Verdict.STRICT_SADDLE, 1, 1, 1)),
        ([0.0, 0.0, 2.0], (Verdict.NO_NEGATIVE_CURVATURE_FOUND, 0, 2, 1)),
        ([1.0, 2.0, 3.0], (Verdict.NO_NEGATIVE_CURVATURE_FOUND, 0, 0, 3)),
        ([0.0, 0.0, 0.0], (Verdict.NO_NEGATIVE_CURVATURE_FOUND, 0, 3, 0)),
    ],
)
def test_small_problems_get_exact_counts(spectrum, expected):
    found = curvature.examine(quadratic(spectrum), jnp.zeros(3))
    assert (found.verdict, found.negative, found.zero, found.positive) == expected
    assert found.backend == "dense"
    np.testing.assert_allclose(found.lower_bound, min(spectrum), atol=1e-14)


def test_a_steep_point_is_not_critical_whatever_its_curvature():
    found = curvature.examine(quadratic([-1.0, 0.0, 2.0]), jnp.ones(3))
    assert found.label == "not_critical"
    loose = curvature.examine(
        quadratic([-1.0, 0.0, 2.0]), jnp.ones(3), gradient_tol=10.0, curvature_tol=0.1
    )
    assert loose.label == "strict_saddle"


def test_a_tiny_negative_eigenvalue_is_found_with_enough_steps_and_never_denied_with_few():
    f = quadratic(TINY, jnp.float32)
    point = jnp.zeros(len(TINY), jnp.float32)
    enough = curvature.examine(f, point, backend="lanczos", num_steps=len(TINY))
    assert enough.label == "strict_saddle"
    assert (enough.negative, enough.zero) == (1, None)
    np.testing.assert_allclose(enough.escape_value, -1e-3, rtol=1e-2)
    for steps in (12, 20, 25, 30, 35):
        few = curvature.examine(f, point, backend="lanczos", num_steps=steps)
        assert few.label in ("inconclusive", "strict_saddle")
        assert few.lower_bound < -1e-3
    assert curvature.examine(f, point, backend="dense").negative == 1


def test_the_verdict_rests_on_a_recomputed_quotient_even_before_convergence():
    spectrum = np.r_[np.linspace(-1, 1, 90)]
    found = curvature.examine(quadratic(spectrum), jnp.zeros(90), backend="lanczos", num_steps=5)
    assert not found.converged
    assert found.label == "strict_saddle"
    A = with_spectrum(spectrum)[0]
    v = np.asarray(found.escape_direction)
    np.testing.assert_allclose(np.linalg.norm(v), 1, rtol=1e-12)
    np.testing.assert_allclose(v @ A @ v, found.escape_value, rtol=1e-12)
    assert found.negative <= (spectrum < 0).sum()
    assert found.positive <= (spectrum > 0).sum()


@pytest.mark.parametrize("backend", ["dense", "lanczos"])
def test_at_the_origin_of_the_model_the_escape_law_holds_though_the_krylov_space_is_exhausted(
    objective, problem, backend
):
    origin = ufm.critical_point(jax.random.key(0), problem, rank=0).params
    found = curvature.examine(objective, origin, backend=backend, num_steps=39)
    certificate = ufm.certify(origin, problem)
    assert found.label == "strict_saddle"
    np.testing.assert_allclose(found.escape_value, certificate.escape_value, rtol=1e-12)
    assert found.negative == certificate.escape_dimension == 8
    if backend == "lanczos":
        assert found.breakdowns > 0
        pairs = curvature.extreme_eigenpairs(objective, origin, 39, num_steps=39, backend=backend)
        distinct, counts = np.unique(np.round(pairs.eigenvalues, 4), return_counts=True)
        np.testing.assert_allclose(distinct, [-0.2307, 0.005, 0.2407, 0.3383])
        np.testing.assert_array_equal(counts, [8, 21, 8, 2])


def test_at_saddles_of_rank_one_the_escape_value_is_that_of_the_law(objective, problem):
    saddle = ufm.critical_point(jax.random.key(1), problem, rank=1).params
    found = curvature.examine(objective, saddle)
    certificate = ufm.certify(saddle, problem)
    assert found.label == "strict_saddle"
    np.testing.assert_allclose(found.escape_value, certificate.escape_value, rtol=1e-6)
    assert found.negative == certificate.escape_dimension == 3


def test_at_the_minimiser_the_zeros_are_the_rotations_and_no_minimum_is_claimed(objective, problem):
    best = ufm.minimizer(problem).params
    found = curvature.examine(objective, best)
    assert found.label == "no_negative_curvature_found"
    assert (found.negative, found.zero, found.positive) == (0, 2 * 4 - 3, 34)
    by_products = curvature.examine(objective, best, backend="lanczos", num_steps=30)
    assert by_products.label == "no_negative_curvature_found"


def test_a_point_short_of_a_minimiser_with_flat_orbits_is_no_saddle(objective, problem):
    best = ufm.minimizer(problem).params
    lowest = []
    for seed in range(5):
        noise = jax.random.normal(jax.random.key(seed), (39,))
        flat, unravel = jax.flatten_util.ravel_pytree(best)
        near = unravel(flat + 3e-9 * noise)
        found = curvature.examine(objective, near)
        assert found.label == "no_negative_curvature_found"
        lowest.append(float(found.escape_value))
    assert min(lowest) < -1e-12


def test_vmapped_points_equal_a_loop(objective, problem):
    keys = jax.random.split(jax.random.key(0), 3)
    points = jax.vmap(lambda key: ufm.init(key, problem, 1.0))(keys)
    for backend in ("dense", "lanczos"):
        settings = {"backend": backend, "num_steps": 12}
        batched = jax.vmap(lambda p, s=settings: curvature.examine(objective, p, **s))(points)
        for i in range(3):
            point = jax.tree.map(lambda leaf, i=i: leaf[i], points)
            one = curvature.examine(objective, point, **settings)
            np.testing.assert_allclose(batched.escape_value[i], one.escape_value, rtol=1e-8)
            assert batched.verdict[i] == one.verdict


def test_a_float32_verdict_is_confirmed_in_float64():
    f = quadratic(TINY, jnp.float32)
    point = jnp.zeros(len(TINY), jnp.float32)
    for settings in ({"backend": "dense"}, {"backend": "lanczos", "num_steps": len(TINY)}):
        plain = curvature.examine(f, point, **settings)
        found = curvature.examine(f, point, confirm=True, **settings)
        assert plain.escape_value.dtype == jnp.float32
        assert found.escape_value.dtype == np.float64
        assert found.label == "strict_saddle"
        v = np.asarray(plain.escape_direction, float)
        A = np.asarray(jnp.asarray(with_spectrum(TINY)[0], jnp.float32), float)
        np.testing.assert_allclose(found.escape_value, v @ A @ v / (v @ v), rtol=1e-9)


def test_negative_curvature_hidden_by_a_stiff_direction_is_not_denied():
    found = curvature.examine(lambda x: 0.5e8 * x[1] ** 2 + jnp.sin(x[0]), jnp.array([1.4, 0.0]))
    assert found.escape_value < -0.8
    assert found.label == "inconclusive"


def test_a_tolerance_below_rounding_is_raised_to_it():
    found = curvature.examine(quadratic([0.0] * 20 + [1.0] * 20), jnp.zeros(40), curvature_tol=0.0)
    assert (found.label, found.negative) == ("no_negative_curvature_found", 0)
    assert found.curvature_tolerance > 1e-15


@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name():
    f = quadratic([1.0, 2.0])
    with pytest.raises(InputError, match="`gradient_tol`"):
        curvature.examine(f, jnp.zeros(2), gradient_tol=-1.0)
    with pytest.raises(InputError, match="`f`: got a linear map"):
        curvature.examine(lambda v: 2 * v, jnp.zeros(2))
    gauss_newton = curvature.gauss_newton(lambda x: x, lambda z: (z**2).sum())
    with pytest.raises(InputError, match="`f`: got a linear map or a Gauss-Newton"):
        curvature.examine(gauss_newton, jnp.zeros(2))
    with pytest.raises(InputError, match="`backend`"):
        curvature.examine(f, jnp.zeros(2), backend="arpack")
    with pytest.raises(InputError, match="`confirm`"):
        jax.vmap(lambda x: curvature.examine(f, x, confirm=True).verdict)(jnp.zeros((2, 2)))
