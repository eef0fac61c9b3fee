import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments import landscape_exactness, ufm_in_numpy
from ncjax import ufm


@pytest.mark.parametrize("loss", ["cross_entropy", "label_smoothing", "focal", "mse"])
@pytest.mark.usefixtures("x64")
def test_the_definition_in_numpy_has_the_derivatives_of_the_objective(loss):
    problem = ufm.Problem(3, 4, (2, 1, 2), loss, 5e-3, 2e-3, 1e-2)
    params = ufm.init(jax.random.key(0), problem, 2.0)
    params = ufm.Params(params.W, params.H, jnp.array([0.3, -0.2, 0.5]))
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def derivatives(flat):
        gradient = jax.grad(lambda v: ufm.objective(unravel(v), problem))
        return gradient(flat), jax.jacfwd(gradient)(flat)

    gradient, hessian = derivatives(flat)
    point = ufm_in_numpy.whole(params, problem)
    np.testing.assert_allclose(ufm_in_numpy.gradient(point, problem), gradient, atol=1e-14)
    np.testing.assert_allclose(ufm_in_numpy.hessian(point, problem), hessian, atol=1e-13)


def test_what_is_computed_is_exact_and_a_second_call_computes_nothing(tmp_path, monkeypatch):
    run = tmp_path / "run"
    landscape_exactness.main("smoke", run)
    claims = pd.read_csv(run / "summary.csv")
    assert (claims["cases"] > 0).all()  # among them starts that did not converge
    assert (claims["found"] <= claims["aim, at most"]).all()
    assert (run / "figures" / "landscape_exactness.png").exists()
    assert "closed spectrum" in (run / "summary.md").read_text()
    for work in ("_spectrum", "_slice", "_newton"):
        monkeypatch.setattr(landscape_exactness, work, lambda *_: pytest.fail("computed again"))
    landscape_exactness.main("smoke", run)
    pd.testing.assert_frame_equal(pd.read_csv(run / "summary.csv"), claims)


def test_what_is_wrong_is_counted():
    newton = pd.DataFrame(
        {
            "loss": ["mse"] * 4,
            "gradient_norm": [1e-12, 1e-3, 1e-12, 1e-3],
            "limit": 1e-11,
            "converged": [True, True, True, False],
            "max_steps": 60,
        }
    )
    spectra = pd.DataFrame({"kind": ["MSE"] * 2, "error": [1e-15, 1e-3]})
    slices = pd.DataFrame(
        {
            "quantity": ["count", "count", "eigenvalue", "eigenvalue"],
            "error": [0, 2, 1e-14, 1e-2],
            "distance": [0.1, 0.1, 1e-15, 1e-15],
            "converged": [np.nan, np.nan, False, True],
        }
    )
    found = landscape_exactness.summarize(spectra, slices, newton)["found"]
    assert list(found) == [1e-3, 1, 1e-2, 1e-15, 1, 0.5, 1]
