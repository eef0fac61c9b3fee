import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments import landscape_conditioning as conditioning
from ncjax import ufm


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("conditioning") / "run"
    conditioning.main("smoke", run)
    return run


def test_gradient_descent_has_the_exact_rates(run):
    rates = pd.read_csv(run / "rates.csv")
    assert len(rates) == 2 * 2 * 3
    assert (rates["difference"] < 1e-3).all()


def test_cross_entropy_is_well_conditioned_at_any_decay_and_mse_is_not(run):
    growth = pd.read_csv(run / "growth.csv").set_index("variant")
    exponent = growth["exponent of condition_number"]
    assert abs(exponent["MSE"] - 1) < 1e-3
    assert 0 < exponent["cross entropy"] < 0.1


def test_smallest_eigenvalue_of_cross_entropy_is_the_decay_or_belongs_to_the_frames_shape(run):
    points = pd.read_csv(run / "points.csv")
    points = points[(points["loss"] == "cross_entropy") & (points["logit_gap"] > 0)]
    share = 2 * points["logit_gap"] / points["num_classes"]
    np.testing.assert_allclose(points["smallest"] / points["decay"], np.minimum(share, 1), 1e-6)
    assert (points.loc[share < 1, "smallest_in"] == "symmetric").all()
    assert (share < 1).any()
    assert (share > 1).any()


def test_finished_run_draws_its_figures_again_from_its_tables(run, monkeypatch):
    figure = run / "figures" / "rescaled_mse.png"
    before = figure.read_bytes()
    figure.unlink()
    monkeypatch.setattr(conditioning, "measured", None)
    conditioning.main("smoke", run)
    assert figure.read_bytes() == before


@pytest.mark.usefixtures("x64")
def test_a_larger_target_is_a_smaller_decay_where_the_bias_plays_no_part():
    plain, rescaled = (
        ufm.spectrum_at_minimizer(
            ufm.Problem(4, 6, 5, "mse", decay, decay, 1e-3, {"scale": 2.0, "target": target})
        )
        for decay, target in [(1e-3, 1.0), (5e-3, 5.0)]
    )
    free = np.isin(plain.labels, ("symmetric", "antisymmetric", "within class"))
    np.testing.assert_allclose(
        rescaled.eigenvalues[free], 5 * plain.eigenvalues[free], atol=1e-14, rtol=1e-9
    )
    assert not np.allclose(rescaled.eigenvalues, 5 * plain.eigenvalues, rtol=1e-2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_largest_eigenvalue_at_the_origin_is_that_of_the_dense_matrix(loss):
    problem = ufm.Problem(3, 3, 2, loss, 1e-3, 1e-3, 1e-2)
    bias = 1 / (3 * 1.01) if loss == "mse" else 0.0  # the best
    origin = ufm.Params(jnp.zeros((3, 3)), jnp.zeros((6, 3)), jnp.full(3, bias))
    flat, unravel = jax.flatten_util.ravel_pytree(origin)
    dense = jax.hessian(lambda x: ufm.objective(unravel(x), problem))(flat)
    eigenvalues = jnp.linalg.eigvalsh(dense)
    found = conditioning.largest_at_origin(problem, -eigenvalues[0])
    np.testing.assert_allclose(found, eigenvalues[-1], rtol=1e-9)
