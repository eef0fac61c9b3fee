import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature, losses, ufm
from ncjax.checks import InputError
from ncjax.ufm.certificate import escape_eigenvalues


def by_verdict(atlas, *verdicts):
    return atlas[atlas["verdict"].isin(verdicts)]


def test_at_saddles_of_every_rank_and_loss_the_escape_value_is_the_smallest_eigenvalue(atlas):
    saddles = by_verdict(atlas, "strict_saddle")
    kinds = saddles.groupby(["loss", "rank"]).size()
    for loss in ("cross_entropy", "label_smoothing", "focal", "mse"):
        assert {rank for kind, rank in kinds.index if kind == loss} >= {0, 1, 2}
    assert ("mse", 3) in kinds.index
    np.testing.assert_allclose(saddles["escape_value"], saddles["smallest_eigenvalue"], rtol=1e-6)
    assert saddles["escape_residual"].max() < 1e-7
    mean = (saddles["lambda_w"] + saddles["lambda_h"]) / 2
    sigma = saddles["spectral_ratio"] * np.sqrt(saddles["lambda_w"] * saddles["lambda_h"])
    law = mean - np.hypot((saddles["lambda_w"] - saddles["lambda_h"]) / 2, sigma)
    np.testing.assert_allclose(saddles["escape_value"], law, rtol=1e-8)


def test_at_saddles_the_escape_dimension_is_the_morse_index(atlas):
    saddles = by_verdict(atlas, "strict_saddle")
    np.testing.assert_array_equal(saddles["escape_dimension"], saddles["negative"])


def test_every_global_minimizer_has_a_tiny_gap_no_negative_eigenvalue_and_the_exact_value(atlas):
    minima = by_verdict(atlas, "global_minimizer")
    assert set(minima["loss"]) == {"cross_entropy", "label_smoothing", "mse"}
    assert minima["gap"].max() < 1e-7
    assert minima["gap"].min() > -1e-12
    assert (minima["negative"] == 0).all()
    np.testing.assert_allclose(minima["objective"], minima["theory_value"], rtol=1e-9)


def test_no_saddle_is_called_a_minimum_and_every_point_gets_a_verdict(atlas):
    saddles = atlas[atlas["negative"] > 0]
    assert (saddles["verdict"] == "strict_saddle").all()
    assert not set(atlas["verdict"]) & {"not_critical", "inconclusive"}


def test_focal_minima_are_symmetric_minima_and_never_global_ones(atlas):
    focal = atlas[atlas["loss"] == "focal"]
    assert set(focal["verdict"]) == {"strict_saddle", "symmetric_minimum"}
    assert focal["gap"].isna().all()


@pytest.mark.parametrize("loss", ["cross_entropy", "label_smoothing", "focal", "mse"])
def test_planted_wrong_points_are_not_certified(loss):
    problem = ufm.Problem(4, 6, 3, loss, 5e-3, 2e-3, 0.0)
    minimum = ufm.minimizer(problem).params
    saddle = ufm.critical_point(jax.random.key(0), problem, 1).params
    noise = ufm.init(jax.random.key(1), problem, 1e-3)
    noisy_saddle = jax.tree.map(jnp.add, saddle, noise)
    certify = jax.jit(lambda params, tol: ufm.certify(params, problem, gradient_tol=tol))

    def label(params, gradient_tol=1e-5):
        return certify(params, gradient_tol).label

    assert label(noisy_saddle) == "not_critical"
    assert label(jax.tree.map(jnp.add, minimum, noise)) == "not_critical"
    assert label(ufm.init(jax.random.key(2), problem)) == "not_critical"
    # Even where the gradient is waved through, neither is called a minimum.
    assert label(noisy_saddle, 1.0) == "strict_saddle"


def test_a_minimum_in_too_few_dimensions_stays_inconclusive():
    problem = ufm.Problem(5, 3, 3, "cross_entropy", 5e-3, 1e-3, 1e-2)
    found = ufm.solve(ufm.init(jax.random.key(0), problem), problem)
    certificate = ufm.certify(found.params, problem)
    assert certificate.label == "inconclusive"
    assert certificate.gap > 1e-3


def test_the_escape_direction_is_a_unit_vector_along_which_the_objective_falls():
    problem = ufm.Problem(4, 6, 3, "cross_entropy", 8e-3, 1e-3, 1e-2)
    saddle = ufm.critical_point(jax.random.key(0), problem, 2).params
    certificate = ufm.certify(saddle, problem)
    v = certificate.escape_direction
    np.testing.assert_allclose(curvature.global_norm(v), 1)
    f = ufm.objective(jax.tree.map(lambda p, q: p + 1e-3 * q, saddle, v), problem)
    predicted = certificate.objective + 0.5e-6 * certificate.escape_value
    np.testing.assert_allclose(f, predicted, atol=1e-11)
    assert f < certificate.objective
    sigma = certificate.spectral_ratio * problem.mu
    np.testing.assert_allclose(certificate.escape_value, escape_eigenvalues(sigma, problem)[0])


def test_certificates_of_a_batch_equal_those_one_by_one():
    problem = ufm.Problem(4, 6, 3, "mse", 5e-3, 2e-3, 0.0)
    points = [ufm.critical_point(jax.random.key(0), problem, r).params for r in (0, 1, 3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *points)
    together = jax.vmap(lambda p: ufm.certify(p, problem))(batch)
    for i, point in enumerate(points):
        alone = ufm.certify(point, problem)
        assert together.verdict[i] == alone.verdict
        np.testing.assert_allclose(together.objective[i], alone.objective, rtol=1e-13)


def test_tolerances_must_be_positive():
    problem = ufm.Problem(4, 6, 3, "mse", 5e-3, 2e-3, 0.0)
    with pytest.raises(InputError, match="`gap_tol`"):
        ufm.certify(ufm.minimizer(problem).params, problem, gap_tol=0.0)


@pytest.mark.parametrize(("loss", "stretch"), [("focal", 1.2), ("focal", 1.5), ("mse", 0.9)])
def test_tolerances_shrink_with_the_decay(loss, stretch):
    problem = ufm.Problem(4, 6, 3, loss, 1e-10, 1e-10, 1e-2)
    best = ufm.minimizer(problem).params
    wrong = ufm.Params(stretch * best.W, stretch * best.H, best.b)
    assert ufm.certify(wrong, problem).label == "not_critical"


def test_a_library_loss_passed_as_a_function_keeps_its_bound():
    problem = ufm.Problem(4, 6, 3, losses.cross_entropy, 5e-3, 2e-3, 1e-2)
    assert ufm.certify(ufm.minimizer(problem).params, problem).label == "global_minimizer"


def test_a_vanishing_loss_gradient_gives_no_nan():
    problem = ufm.Problem(4, 6, 3, "cross_entropy", 1e-3, 1e-3, 1e-2)
    W = 1e4 * jnp.eye(4, 6)
    certificate = ufm.certify(ufm.Params(W, jnp.repeat(W, 3, axis=0), jnp.zeros(4)), problem)
    assert certificate.label == "not_critical"
    assert jnp.isfinite(certificate.escape_value)


@pytest.mark.parametrize(
    ("tau_K", "verdict"), [(1 - 1e-5, "strict_saddle"), (1 + 1e-5, "global_minimizer")]
)
def test_the_origin_turns_from_saddle_to_minimum_where_the_decay_wins(tau_K, verdict):
    decay = tau_K / 4 / 3**0.5
    problem = ufm.Problem(4, 6, 3, "cross_entropy", decay, decay, 0.1)
    origin = ufm.Params(jnp.zeros((4, 6)), jnp.zeros((12, 6)), jnp.zeros(4))
    assert ufm.certify(origin, problem).label == verdict
