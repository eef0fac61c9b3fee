import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError

LOSSES = {
    "cross entropy": ("cross_entropy", {}, 1e-2),
    "label smoothing, free shift": ("label_smoothing", {"smoothing": 0.2}, 0.0),
    "focal": ("focal", {"gamma": 2.0}, 1e-2),
    "MSE, free bias": ("mse", {"scale": 3.0, "target": 2.0}, 0.0),
    "MSE with a common component": ("mse", {"target": 15.0}, 0.1),
}


def dense_spectrum(problem):
    """Eigenvalues of the Hessian matrix at the minimiser."""
    flat, unravel = jax.flatten_util.ravel_pytree(ufm.minimizer(problem).params)
    hessian = jax.jit(jax.hessian(lambda v: ufm.objective(unravel(v), problem)))
    return np.linalg.eigvalsh(hessian(flat))


def repeated(spectrum):
    counts = np.asarray(spectrum.multiplicities).round().astype(int)
    return np.sort(np.repeat(np.asarray(spectrum.eigenvalues), counts))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("size", [(2, 1, 2), (3, 5, 1), (5, 5, 3)])
def test_it_equals_the_dense_spectrum_for_every_loss(kind, size):
    loss, hyperparameters, lambda_b = LOSSES[kind]
    K, d, n = size
    if loss == "mse" and lambda_b > 0 and d < K:
        pytest.skip("the common component needs d >= K")
    problem = ufm.Problem(K, d, n, loss, 5e-3, 2e-3, lambda_b, hyperparameters)
    exact = repeated(ufm.spectrum_at_minimizer(problem))
    dense = dense_spectrum(problem)
    np.testing.assert_allclose(exact, dense, atol=1e-12 * dense[-1])


@pytest.mark.parametrize("size", [(2, 5, 4), (6, 5, 2), (8, 11, 1)])
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


def test_zeros_are_the_rotations_and_the_condition_number_is_differentiable():
    problem = ufm.Problem(5, 7, 3, "focal", 5e-3, 2e-3, 1e-2)
    found = ufm.conditioning(problem)
    assert found.flat == 4 * 3 // 2 + 4 * 3
    dense = dense_spectrum(problem)
    nonzero = dense[dense > 1e-9]
    np.testing.assert_allclose(found.condition_number, nonzero.max() / nonzero.min(), rtol=1e-9)

    def log_condition(lambda_w):
        changed = dataclasses.replace(problem, lambda_w=lambda_w)
        return jnp.log(ufm.conditioning(changed).condition_number)

    slope = jax.grad(log_condition)(5e-3)
    difference = (log_condition(5e-3 + 1e-7) - log_condition(5e-3 - 1e-7)) / 2e-7
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_the_escape_rate_is_that_of_the_origin(kind):
    loss, hyperparameters, lambda_b = LOSSES[kind]
    problem = ufm.Problem(4, 5, 3, loss, 5e-3, 2e-3, lambda_b, hyperparameters)
    origin = ufm.critical_point(jax.random.key(0), problem, 0, compact=True).params
    smallest = ufm.certify(origin, problem).escape_value
    assert ufm.count_below(origin, problem, 1.001 * smallest) == 0
    np.testing.assert_allclose(ufm.conditioning(problem).escape_rate, -smallest, rtol=1e-9)


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
