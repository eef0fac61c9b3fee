import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError
from tests.curvature.conftest import matvec, with_spectrum

pytestmark = pytest.mark.usefixtures("x64")

SPECTRUM = np.r_[-2.0, np.linspace(0, 1, 77), 6.0, 9.0]
SIZE = len(SPECTRUM)


@pytest.fixture(scope="module")
def operator():
    with jax.enable_x64(True):
        return curvature.linear_map(matvec, jnp.asarray(with_spectrum(SPECTRUM)[0]))


@pytest.fixture(scope="module")
def density(operator):
    with jax.enable_x64(True):
        return curvature.spectral_density(operator, jnp.zeros(SIZE), num_steps=30, num_probes=40)


def test_the_mass_of_every_probe_is_one_and_no_weight_is_negative(density):
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-12)
    assert (density.weights >= 0).all()


def test_moments_agree_with_the_spectrum_and_with_hutchinson_within_standard_errors(
    operator, density
):
    trace = curvature.trace(operator, jnp.zeros(SIZE), num_probes=200)
    frobenius = curvature.frobenius_norm(operator, jnp.zeros(SIZE), num_probes=200)
    for estimate, true in [
        (density.moment(1), SPECTRUM.mean()),
        (density.moment(2), (SPECTRUM**2).mean()),
        (trace, SPECTRUM.sum()),
        (frobenius, np.linalg.norm(SPECTRUM)),
    ]:
        assert 0 < estimate.standard_error < 0.3 * abs(estimate.value)
        assert abs(estimate.value - true) < 4 * estimate.standard_error
    first, second = density.moment(1), density.moment(2)
    for ours, hutchinson in [
        ((first.value, first.standard_error), (trace.value, trace.standard_error)),
        (
            (second.value, second.standard_error),
            (frobenius.value**2, 2 * frobenius.value * frobenius.standard_error),
        ),
    ]:
        gap = abs(ours[0] - hutchinson[0] / SIZE)
        assert gap < 4 * np.hypot(ours[1], hutchinson[1] / SIZE)


def test_weights_are_squared_first_components_which_match_moments_of_the_start_exactly(operator):
    one = curvature.spectral_density(operator, jnp.zeros(SIZE), num_steps=8, num_probes=1)
    A = with_spectrum(SPECTRUM)[0]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
    v = np.asarray(jax.random.normal(key, (SIZE,)))
    v = v / np.linalg.norm(v)
    for order in range(1, 16):
        expected = v @ np.linalg.matrix_power(A, order) @ v
        np.testing.assert_allclose(one.moment(order).value, expected, rtol=1e-9)
    assert np.isnan(one.moment(1).standard_error)


def test_smoothing_integrates_to_one_for_every_width_without_new_products(density):
    grid = jnp.linspace(-4, 11, 4001)
    for width in (None, 0.05, 0.5):
        np.testing.assert_allclose(jnp.trapezoid(density.smooth(grid, width), grid), 1, rtol=1e-3)
    share = density.smooth(grid, 0.05)[jnp.abs(grid - 9) < 0.3]
    np.testing.assert_allclose(share.sum() * (grid[1] - grid[0]), 1 / SIZE, rtol=0.5)


def test_a_degenerate_spectrum_keeps_its_masses():
    density = curvature.spectral_density(lambda v: 3 * v, jnp.zeros(20), num_probes=2)
    np.testing.assert_allclose(density.nodes, 3)
    np.testing.assert_allclose(density.weights.sum(1), 1)
    zero = curvature.spectral_density(lambda v: 0 * v, jnp.zeros(20), num_probes=2)
    assert jnp.isfinite(zero.smooth(jnp.linspace(-1, 1, 5))).all()


def test_a_rounded_basis_keeps_mass_and_moments(operator):
    rounded = curvature.spectral_density(
        operator, jnp.zeros(SIZE), num_steps=30, num_probes=3, basis_dtype=jnp.float32
    )
    np.testing.assert_allclose(rounded.weights.sum(1), 1, rtol=1e-6)
    exact = curvature.spectral_density(operator, jnp.zeros(SIZE), num_steps=30, num_probes=3)
    np.testing.assert_allclose(rounded.moment(2).value, exact.moment(2).value, rtol=1e-5)


def test_bad_input_is_refused_by_name(operator, density):
    with pytest.raises(InputError, match="`num_probes`"):
        curvature.spectral_density(operator, jnp.zeros(SIZE), num_probes=0)
    with pytest.raises(InputError, match="`width`"):
        density.smooth(jnp.zeros(3), 0.0)
    with pytest.raises(InputError, match="`num_probes`"):
        curvature.trace(operator, jnp.zeros(SIZE), num_probes=0)
