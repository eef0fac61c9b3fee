import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError
from tests.ufm.conftest import KINDS, dense_spectrum


def repeated(spectrum):
    counts = np.asarray(spectrum.multiplicities).round().astype(int)
    return np.sort(np.repeat(np.asarray(spectrum.eigenvalues), counts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(2, 1, 2), (4, 5, 3)])
def test_it_equals_the_dense_spectrum_for_every_loss(kind, size):
    loss, hyperparameters, lambda_b = KINDS[kind]
    K, d, n = size
    if loss == "mse" and lambda_b > 0 and d < K:
        pytest.skip("the common component needs d >= K")
    problem = ufm.Problem(K, d, n, loss, 5e-3, 2e-3, lambda_b, hyperparameters)
    exact = repeated(ufm.spectrum_at_minimizer(problem))
    dense = dense_spectrum(problem)
    np.testing.assert_allclose(exact, dense, atol=1e-12 * dense[-1])


@pytest.mark.parametrize("size", [(3, 5, 1), (8, 11, 1)])
def test_it_equals_the_dense_spectrum_for_other_sizes(size):
    problem = ufm.Problem(*size, "cross_entropy", 5e-3, 2e-3, 1e-2)
    exact, dense = repeated(ufm.spectrum_at_minimizer(problem)), dense_spectrum(problem)
    np.testing.assert_allclose(exact, dense, atol=1e-12 * dense[-1])


def test_a_collapsed_problem_and_one_whose_sizes_are_traced_have_their_spectra_too():
    problem = ufm.Problem(4, 5, 3, "cross_entropy", 0.3, 0.3, 1e-2)
    assert ufm.minimizer(problem).logit_gap == 0
    dense = dense_spectrum(problem)
    np.testing.assert_allclose(repeated(ufm.spectrum_at_minimizer(problem)), dense, atol=1e-13)
    traced = jax.jit(ufm.spectrum_at_minimizer)(
        dataclasses.replace(problem, samples_per_class=jnp.asarray(3))
    )
    np.testing.assert_allclose(repeated(traced), dense, atol=1e-13)


def test_billions_of_parameters_need_no_more_than_a_handful():
    problem = ufm.Problem(1000, 2048, 1300, "cross_entropy", 1e-6, 1e-6, 1e-4)
    spectrum = ufm.spectrum_at_minimizer(problem)
    assert spectrum.multiplicities.sum() == 1000 * 2049 + 1_300_000 * 2048
    assert spectrum.eigenvalues.min() > -1e-15
    best = ufm.minimizer(problem, compact=True).params
    assert ufm.certify(best, problem).label == "global_minimizer"


def test_unequal_classes_are_refused():
    problem = ufm.Problem(3, 4, (1, 2, 3), "cross_entropy", 1e-3, 1e-3, 1e-2)
    with pytest.raises(InputError, match=r"`samples_per_class`.*solve"):
        ufm.spectrum_at_minimizer(problem)
