"""The catalogue of prescribed spectra: no NaN, nothing invented, multiplicities found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError
from tests.curvature.conftest import matvec, with_spectrum

pytestmark = pytest.mark.usefixtures("x64")

SIZE = 96
CATALOGUE = {
    "distinct": np.linspace(-1, 2, SIZE),
    "clusters": np.r_[[3.0] * 9, [1.0] * 40, [0.0] * (SIZE - 49)],
    "identity": np.ones(SIZE),
    "zero": np.zeros(SIZE),
    "low rank": np.r_[5.0, -2.0, 1.0, np.zeros(SIZE - 3)],
    "tiny negative": np.r_[-1e-3, np.zeros(SIZE // 2), np.linspace(0.1, 10, SIZE // 2 - 1)],
    "condition 1e5": np.geomspace(1e-5, 1, SIZE),
    "huge": np.geomspace(1, 1e25, SIZE),
    "tiny": np.r_[-1e-25, np.geomspace(1e-27, 1e-24, SIZE - 1)],
}
STARTS = ("ones", "Gaussian", "eigenvector")


def problems():
    """Every spectrum with every start: matrices, start vectors, true eigenvalues."""
    matrices, starts, spectra = [], [], []
    for spectrum in CATALOGUE.values():
        A, Q = with_spectrum(spectrum)
        gaussian = np.random.default_rng(1).normal(size=SIZE)
        for start in (np.ones(SIZE), gaussian, Q[:, 0]):
            matrices.append(A)
            starts.append(start)
            spectra.append(np.sort(spectrum))
    return map(np.array, (matrices, starts, spectra))


def both_ends(A, start, **settings):
    operator = curvature.linear_map(matvec, A)
    return curvature.extreme_eigenpairs(
        operator, jnp.zeros_like(start), (9, 9), "BE", start=start, backend="lanczos", **settings
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("block", [1, 3])
def test_nothing_is_invented_and_every_pair_lies_within_its_residual_of_a_true_one(dtype, block):
    matrices, starts, spectra = problems()
    run = jax.jit(jax.vmap(lambda A, s: both_ends(A, s, num_steps=40, block=block)))
    pairs = run(jnp.asarray(matrices, dtype), jnp.asarray(starts, dtype))
    values, residuals = (np.asarray(x, float) for x in (pairs.eigenvalues, pairs.residuals))
    rounding = 30 * float(jnp.finfo(dtype).eps) * np.abs(spectra).max(1, keepdims=True)
    assert np.isfinite(values).all()
    assert np.isfinite(residuals).all()
    assert (values >= spectra[:, :1] - rounding).all()
    assert (values <= spectra[:, -1:] + rounding).all()
    distances = np.abs(values[:, :, None] - spectra[:, None, :]).min(-1)
    assert (distances <= residuals + rounding).all()
    vectors = np.asarray(pairs.eigenvectors, float)
    grams = vectors @ vectors.transpose(0, 2, 1)
    assert np.abs(grams - np.eye(18)).max() < 1e3 * float(jnp.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_multiplicities_are_found_where_steps_allow(dtype):
    matrices, starts, _ = problems()
    chosen = slice(3, 9)  # clusters and identity, with every start
    run = jax.jit(jax.vmap(lambda A, s: both_ends(A, s, num_steps=40)))
    pairs = run(jnp.asarray(matrices[chosen], dtype), jnp.asarray(starts[chosen], dtype))
    tolerance = 100 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(pairs.eigenvalues[:3, -9:], 3, atol=tolerance)
    np.testing.assert_allclose(pairs.eigenvalues[3:], 1, atol=tolerance)
    assert (pairs.breakdowns > 0).all()
    assert pairs.converged.all()


@pytest.mark.parametrize("start", ["Gaussian", "eigenvector"])
def test_a_tiny_negative_eigenvalue_among_zeros_is_found_in_float32_once_steps_reach_it(start):
    matrices, starts, _ = problems()
    place = list(CATALOGUE).index("tiny negative") * 3 + STARTS.index(start)
    A, s = (jnp.asarray(x[place], jnp.float32) for x in (matrices, starts))
    pairs = both_ends(A, s, num_steps=SIZE)
    np.testing.assert_allclose(pairs.eigenvalues[0], -1e-3, rtol=5e-3)
    assert pairs.converged.all()
    short = both_ends(A, s, num_steps=20)
    assert float(short.eigenvalues[0]) >= -1.001e-3


def test_more_steps_than_dimensions_give_the_whole_spectrum():
    for spectrum in ([1.0, -2.0, 0.5], [-3.0], [0.0, 0.0]):
        operator = curvature.linear_map(matvec, jnp.asarray(with_spectrum(spectrum)[0]))
        pairs = curvature.extreme_eigenpairs(
            operator, jnp.zeros(len(spectrum)), len(spectrum), num_steps=50, backend="lanczos"
        )
        np.testing.assert_allclose(pairs.eigenvalues, sorted(spectrum), atol=1e-14)
        assert pairs.num_steps == len(spectrum)
        assert pairs.missed == 0


def test_a_start_of_zeros_is_replaced_by_a_random_one():
    pairs = curvature.extreme_eigenpairs(
        lambda v: 2 * v, jnp.zeros(5), 2, start=jnp.zeros(5), backend="lanczos"
    )
    np.testing.assert_allclose(pairs.eigenvalues, 2)


@pytest.mark.parametrize("basis_dtype", [jnp.float32, jnp.bfloat16])
def test_a_basis_of_fewer_digits_still_gives_true_pairs(basis_dtype):
    spectrum = np.r_[-1.0, np.linspace(0, 1, SIZE - 3), 4.0, 5.0]
    operator = curvature.linear_map(matvec, jnp.asarray(with_spectrum(spectrum)[0]))
    pairs = curvature.extreme_eigenpairs(
        operator,
        jnp.zeros(SIZE),
        (1, 2),
        "BE",
        num_steps=40,
        basis_dtype=basis_dtype,
        backend="lanczos",
    )
    digits = float(jnp.finfo(basis_dtype).eps)
    np.testing.assert_allclose(pairs.eigenvalues, [-1, 4, 5], atol=digits)
    assert (pairs.residuals < 5 * digits).all()


def test_the_share_missed_bounds_what_runs_from_random_starts_miss():
    spectrum = np.r_[0.0, np.linspace(0.3, 1.0, SIZE - 1) ** 2]
    operator = curvature.linear_map(matvec, jnp.diag(jnp.asarray(spectrum)))

    def lowest(key):
        pairs = curvature.extreme_eigenpairs(
            operator, jnp.zeros(SIZE), (1, 1), "BE", num_steps=12, key=key, backend="lanczos"
        )
        return pairs.eigenvalues

    values = jax.vmap(lowest)(jax.random.split(jax.random.key(0), 300))
    worst = max(values[:, 0].max(), 1 - values[:, 1].min())
    share = curvature.spread_missed(12, SIZE)
    assert 0.05 * share < worst < share
    assert curvature.spread_missed(12, SIZE, block=2) > share
    assert curvature.spread_missed(SIZE, SIZE) == 0
    assert curvature.spread_missed(1, 10**6) == 1
    with pytest.raises(InputError, match="`confidence`"):
        curvature.spread_missed(12, SIZE, confidence=1.0)
