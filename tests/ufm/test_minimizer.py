import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ncjax import frames, ufm
from ncjax.checks import InputError

LOSSES = [
    ("cross_entropy", {}),
    ("label_smoothing", {"smoothing": 0.1}),
    ("focal", {"gamma": 2.0}),
    ("mse", {"scale": 1.0, "target": 1.0}),
    ("mse", {"scale": 3.0, "target": 2.0}),
]
# (K, d, n), lambda_w, lambda_h, lambda_b; one or several problems a shape share its compilation.
PROBLEMS = [
    ((2, 3, 4), 5e-3, 1e-3, 0.0),
    ((12, 12, 2), 1e-3, 5e-4, 1e-2),
    ((5, 4, 2), 1e-3, 4e-3, 0.0),  # d = K-1
    ((4, 6, 3), 5e-3, 2e-3, 1e-2),
    ((4, 6, 3), 1e-4, 3e-3, 0.5),  # MSE with a common component
    ((4, 6, 3), 0.98 / 4 / 3**0.5, 0.98 / 4 / 3**0.5, 0.1),  # K tau = 0.98
    ((4, 6, 3), 1.02 / 4 / 3**0.5, 1.02 / 4 / 3**0.5, 0.1),  # K tau = 1.02
]
CASES = [(*loss, *problem) for loss in LOSSES for problem in PROBLEMS[2:]]
CASES += [(*LOSSES[i], *PROBLEMS[j]) for i, j in ((0, 0), (3, 0), (1, 1), (4, 1))]


minimizer = importlib.import_module("ncjax.ufm.minimizer")  # the module, not its function
value_and_gradient = jax.jit(jax.value_and_grad(ufm.objective))  # compiles once for all lambdas


def flat(params: ufm.Params) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in (params.W, params.H, params.b)])


def independent_minimum(problem: ufm.Problem) -> float:
    """The least value that SciPy's L-BFGS-B finds from four random starts."""
    starts = [ufm.init(jax.random.key(seed), problem) for seed in range(4)]
    K, d = starts[0].W.shape
    ends = np.cumsum([K * d, starts[0].H.size])

    def f(x):
        W, H, b = np.split(x, ends)
        params = ufm.Params(W.reshape(K, d), H.reshape(-1, d), b)
        value, gradient = value_and_gradient(params, problem)
        return float(value), flat(gradient)

    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 30}
    return min(
        scipy.optimize.minimize(
            f,
            flat(start),
            jac=True,
            method="L-BFGS-B",
            options=options,
        ).fun
        for start in starts
    )


@pytest.mark.parametrize(("loss", "hp", "shape", "lambda_w", "lambda_h", "lambda_b"), CASES)
def test_the_minimizer_agrees_with_an_independent_optimizer(
    loss, hp, shape, lambda_w, lambda_h, lambda_b
):
    problem = ufm.Problem(*shape, loss, lambda_w, lambda_h, lambda_b, hp)
    best = ufm.minimizer(problem)
    assert best.converged
    np.testing.assert_allclose(best.value, independent_minimum(problem), rtol=1e-9)
    value, gradient = value_and_gradient(best.params, problem)
    np.testing.assert_allclose(value, best.value, rtol=1e-12)
    assert np.linalg.norm(flat(gradient)) < 1e-8


def test_one_program_serves_all_sizes_of_a_number_of_classes():
    first = ufm.minimizer(ufm.Problem(4, 6, 3, "mse", 5e-3, 2e-3, 1e-2))
    before = minimizer._two_scalars._cache_size()
    for d, n in ((3, 3), (9, 12), (6, 1)):
        ufm.minimizer(ufm.Problem(4, d, n, "mse", 5e-3, 2e-3, 1e-2))
    assert minimizer._two_scalars._cache_size() == before
    same = ufm.minimizer(ufm.Problem(4, 8, 12, "mse", 5e-3, 5e-4, 1e-2))  # the same tau
    np.testing.assert_allclose(same.logit_gap, first.logit_gap, rtol=1e-12)


def closed_form_gap(problem: ufm.Problem) -> float:
    """The logit gap s as the fact sheet states it for each loss."""
    K, c, hp = problem.num_classes, float(problem.tau), problem.hyperparameters
    if problem.loss == "cross_entropy":
        return np.log(1 / c - (K - 1)) if K * c < 1 else 0.0
    if problem.loss == "label_smoothing":
        alpha = hp["smoothing"]
        return np.log(1 / (c + alpha / K) - (K - 1)) if K * c < 1 - alpha else 0.0
    return max(0.0, hp["target"] - c * (1 + (K - 1) / hp["scale"]))


@pytest.mark.parametrize(("loss", "hp"), [case for case in LOSSES if case[0] != "focal"])
@pytest.mark.parametrize("tau_K", [1e-6, 0.02, 0.5, 0.899, 0.901, 0.999, 1.001, 3.0])
def test_the_logit_gap_is_the_closed_form_on_both_sides_of_the_collapse_to_zero(loss, hp, tau_K):
    decay = tau_K / 4 / 3**0.5
    problem = ufm.Problem(4, 6, 3, loss, decay, decay, 0.0, hp)
    best = ufm.minimizer(problem)
    np.testing.assert_allclose(best.logit_gap, closed_form_gap(problem), atol=1e-7)
    assert abs(best.bias) < 1e-15 or loss == "mse"


@pytest.mark.parametrize("lambda_b", [0.0, 1e-3, 0.02, 0.1, 2.0])
@pytest.mark.parametrize("M", [1.0, 15.0])
def test_mse_takes_the_common_component_and_bias_of_its_closed_form(lambda_b, M):
    problem = ufm.Problem(4, 6, 3, "mse", 5e-3, 2e-3, lambda_b, {"scale": 1.0, "target": M})
    K, c = 4, float(problem.tau)
    s = max(0.0, M - K * c)
    z = max(0.0, M - K * c * (1 + lambda_b) / lambda_b) if lambda_b else 0.0
    f = (K - 1) * ((M - s) ** 2 / (2 * K) + c * s)
    f += lambda_b / (1 + lambda_b) * (M - z) ** 2 / (2 * K) + c * z
    best = ufm.minimizer(problem)
    np.testing.assert_allclose(best.logit_gap, s, rtol=1e-9)
    np.testing.assert_allclose(best.common, z, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(best.bias, (M - z) / (K * (1 + lambda_b)), rtol=1e-9)
    np.testing.assert_allclose(best.value, f, rtol=1e-11)


def test_focal_solves_the_stationarity_equation_of_its_gap():
    problem = ufm.Problem(10, 12, 5, "focal", 5e-4, 5e-4, 0.0, {"gamma": 3.0})
    K, c, g = 10, float(problem.tau), 3.0
    p = 1 / (1 + (K - 1) * np.exp(-float(ufm.minimizer(problem).logit_gap)))
    np.testing.assert_allclose(
        (1 - p) ** g * ((1 - p) - g * p * np.log(p)), (K - 1) * c, rtol=1e-10
    )


@pytest.mark.parametrize("d", [3, 4, 9])
def test_the_minimizer_is_a_simplex_etf_with_duality(d):
    problem = ufm.Problem(4, d, 3, "cross_entropy", 5e-3, 2e-3, 1e-2)
    W, H = ufm.minimizer(problem).params.W, ufm.minimizer(problem).params.H
    assert frames.distance_to_simplex_etf(W @ W.T) < 1e-12
    ratio = np.sqrt(5e-3 / (3 * 2e-3))
    np.testing.assert_allclose(H, np.repeat(ratio * W, 3, axis=0), atol=1e-12)


def test_the_gap_is_differentiable_in_the_problem():
    def gap(lambda_w):
        return ufm.minimizer(ufm.Problem(4, 6, 3, "cross_entropy", lambda_w, 2e-3, 1e-2)).logit_gap

    exact = jax.grad(lambda lw: jnp.log(1 / jnp.sqrt(3 * lw * 2e-3) - 3))(5e-3)
    np.testing.assert_allclose(jax.grad(gap)(5e-3), exact, rtol=1e-10)


def test_too_few_dimensions_are_refused_with_the_number_needed():
    with pytest.raises(InputError, match="`feature_dim`: got 2.*at least 3"):
        ufm.minimizer(ufm.Problem(4, 2, 3, "cross_entropy", 5e-3, 2e-3, 1e-2))
    with_common_part = ufm.Problem(4, 3, 3, "mse", 5e-3, 2e-3, 0.5)
    with pytest.raises(InputError, match="`feature_dim`: got 3.*at least 4.*common component"):
        ufm.minimizer(with_common_part)
    assert not jax.jit(ufm.minimizer)(with_common_part).converged


@pytest.mark.parametrize("decay", [1e-10, 1e-6, 1e-3])
def test_float32_finds_the_gap_at_any_decay_or_says_that_it_did_not(decay):
    with jax.enable_x64(False):
        problem = ufm.Problem(10, 10, 10, "cross_entropy", decay, decay, 1e-2)
        best = ufm.minimizer(problem)
        assert best.logit_gap.dtype == jnp.float32
        tau = decay * np.sqrt(10)
        if best.converged:
            np.testing.assert_allclose(best.logit_gap, np.log(1 / tau - 9), rtol=1e-3)
    assert decay < 1e-6 or best.converged


@pytest.mark.parametrize(("tau", "scale", "target"), [(1.0, 0.01, 30.0), (0.1, 1e-3, 100.0)])
def test_many_classes_with_a_small_scale_are_no_worse_than_the_origin(tau, scale, target):
    hp = {"scale": scale, "target": target}
    best = ufm.minimizer(ufm.Problem(1000, 1000, 1, "mse", tau, tau, 1e8, hp))
    assert best.converged
    assert best.value <= scale * target**2 / 2 * (1 + 1e-9)


def test_a_problem_is_a_pytree_that_can_be_differentiated_and_mapped_over():
    problem = ufm.Problem(4, 6, 3, "label_smoothing", 0.01, 0.02, 1e-2, {"smoothing": 0.1})
    slopes = jax.jit(jax.grad(lambda p: ufm.minimizer(p).value))(problem)
    step = 1e-6
    for name in ("lambda_w", "lambda_h"):
        up, down = (
            ufm.minimizer(dataclasses.replace(problem, **{name: getattr(problem, name) + e})).value
            for e in (step, -step)
        )
        np.testing.assert_allclose(getattr(slopes, name), (up - down) / (2 * step), rtol=1e-6)
    decays = jnp.array([0.01, 0.02])
    batch = dataclasses.replace(problem, lambda_w=decays)
    axes = dataclasses.replace(problem, lambda_w=0.01)
    object.__setattr__(axes, "lambda_w", 0)
    for name in ("lambda_h", "lambda_b"):
        object.__setattr__(axes, name, None)
    object.__setattr__(axes, "hyperparameters", {"smoothing": None})
    values = jax.vmap(lambda p: ufm.minimizer(p).value, in_axes=(axes,))(batch)
    np.testing.assert_allclose(values[0], ufm.minimizer(problem).value, rtol=1e-12)
    with pytest.raises(InputError, match="`lambdas`.*vmap"):
        ufm.minimizer(batch)


def test_the_explicit_params_are_differentiable():
    def norm(lambda_w):
        problem = ufm.Problem(4, 6, 3, "cross_entropy", lambda_w, 1e-3, 1e-2)
        return jnp.square(ufm.minimizer(problem).params.W).sum()

    slope = (norm(5e-3 + 1e-7) - norm(5e-3 - 1e-7)) / 2e-7
    np.testing.assert_allclose(jax.grad(norm)(5e-3), slope, rtol=1e-6)
