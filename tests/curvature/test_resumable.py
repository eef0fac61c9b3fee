import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError
from ncjax.curvature import resumable
from ncjax.curvature.program import locate
from tests.curvature.conftest import matvec, with_spectrum

pytestmark = pytest.mark.usefixtures("x64")

SPECTRUM = np.r_[-2.0, np.linspace(0, 1, 57), 6.0, 9.0]


class Killed(Exception):
    pass


class Reporter:
    """Counts products, and dies after some."""

    def __init__(self, dies_after=None):
        self.total, self._left = 0, dies_after

    def __call__(self, count):
        self.total += count
        if self._left is not None and self.total >= self._left:
            raise Killed


@pytest.fixture
def located():
    A = jnp.asarray(with_spectrum(SPECTRUM)[0])
    return locate(curvature.hessian(lambda x, A: 0.5 * x @ matvec(x, A), A), jnp.zeros(60))


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(located, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "_SAVE_SECONDS", 0.0)
    key, path = jax.random.key(3), tmp_path / "run.npz"
    whole, found = resumable.eigenpairs(located, 1, 2, 35, key, tmp_path / "other.npz")
    with pytest.raises(Killed):
        resumable.eigenpairs(located, 1, 2, 35, key, path, Reporter(dies_after=20))
    reporter = Reporter()
    again, _ = resumable.eigenpairs(located, 1, 2, 35, key, path, reporter)
    assert reporter.total == 35
    np.testing.assert_array_equal(again.eigenvalues, whole.eigenvalues)
    np.testing.assert_array_equal(again.residuals, whole.residuals)
    one_program = curvature.extreme_eigenpairs(
        located.operator, located.point, (1, 2), "BE", num_steps=35, key=key, backend="lanczos"
    )
    np.testing.assert_allclose(whole.eigenvalues, one_program.eigenvalues, rtol=1e-12)
    assert found.label == "strict_saddle"


def test_a_density_keeps_the_probes_it_has(located, tmp_path):
    key, path = jax.random.key(0), tmp_path / "probes.jsonl"
    with pytest.raises(Killed):
        resumable.density(located, 3, 20, key, path, Reporter(dies_after=40))
    with path.open("a") as file:
        file.write('{"probe": 2, "nodes": [0.1')  # a kill in the middle of a line
    reporter = Reporter()
    density = resumable.density(located, 3, 20, key, path, reporter)
    assert len(path.read_text().splitlines()) == 3
    assert reporter.total == 60
    at_once = curvature.spectral_density(
        located.operator, located.point, num_steps=20, num_probes=3, key=key
    )
    np.testing.assert_allclose(density.nodes, at_once.nodes, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(density.weights, at_once.weights, rtol=1e-6, atol=1e-9)
    assert resumable.density(located, 0, 20, key, tmp_path / "none.jsonl") is None


def test_a_damaged_or_foreign_state_is_refused_by_its_name(located, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "_SAVE_SECONDS", 0.0)
    key, path = jax.random.key(3), tmp_path / "run.npz"
    with pytest.raises(Killed):
        resumable.eigenpairs(located, 1, 2, 35, key, path, Reporter(dies_after=20))
    with pytest.raises(InputError, match="run.npz.*of another run"):
        resumable.eigenpairs(located, 1, 2, 34, key, path)
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="run.npz.*Delete it"):
        resumable.eigenpairs(located, 1, 2, 35, key, path)
