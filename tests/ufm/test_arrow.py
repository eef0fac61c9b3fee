import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.ufm import arrow as arrows
from tests.ufm.conftest import make

# Two kinds of loss, equal and unequal classes, one row of H a sample and one a class.
CASES = [
    ("mse", (3, 4, 2), False),
    ("cross_entropy", (3, 4, (2, 1, 2)), True),
    ("focal", (3, 4, (2, 1, 2)), False),
    ("focal", (3, 4, (2, 1, 2)), True),
]


def example(loss, size, compact):
    """A problem and a point of it where nothing vanishes."""
    problem = make(loss, size)
    params = ufm.init(jax.random.key(1), problem, 1.5, compact=compact)
    return problem, ufm.Params(params.W, params.H, jnp.array([0.3, -0.2, 0.5]))


def flattened(params):
    """W and b, class by class, and then the features, as the arrow orders them."""
    corner = np.concatenate([params.W, np.asarray(params.b)[:, None]], axis=1)
    return np.concatenate([corner.ravel(), np.ravel(params.H)])


def assembled(pieces):
    """The whole matrix, by the formulas of the module's docstring."""
    K, d = pieces.W.shape
    corner = np.einsum("ikl,ie,if->kelf", pieces.hessians, pieces.X, pieces.X)
    corner = corner.reshape(K * (d + 1), -1) + np.diag(np.tile(pieces.decay, K))
    coupling = np.einsum("ikl,lf,ie->keif", pieces.hessians, pieces.W, pieces.X)
    coupling[:, :d] += np.einsum("ik,ef->keif", pieces.gradients, np.eye(d))
    coupling = coupling.reshape(len(corner), -1)
    blocks = np.einsum("ij,ief->iejf", np.eye(len(pieces.X)), pieces.blocks)
    blocks = blocks.reshape(coupling.shape[1], -1)
    return np.block([[corner, coupling], [coupling.T, blocks]])


def hessian(params, problem):
    K, d = params.W.shape

    def value(flat):
        corner, H = flat[: K * (d + 1)].reshape(K, d + 1), flat[K * (d + 1) :].reshape(-1, d)
        return ufm.objective(ufm.Params(corner[:, :d], H, corner[:, d]), problem)

    return jax.jit(jax.hessian(value))(jnp.asarray(flattened(params)))


@jax.jit
def solved(pieces, right, shift):
    inverses = jnp.linalg.inv(arrows.shifted_blocks(pieces, shift))
    factored = arrows.eliminated(pieces, shift, inverses)
    corner = jnp.linalg.solve(factored.schur, arrows.corner_right(factored, right))
    return arrows.with_corner(factored, right, corner)


@pytest.mark.parametrize(("loss", "size", "compact"), CASES)
def test_the_pieces_make_up_the_hessian(loss, size, compact):
    problem, params = example(loss, size, compact)
    pieces = arrows.arrow(params, problem)
    np.testing.assert_allclose(assembled(pieces), hessian(params, problem), atol=1e-14)


@pytest.mark.parametrize("shift", [0.013, -0.02j])
@pytest.mark.parametrize(("loss", "size", "compact"), CASES)
def test_eliminating_the_features_solves_at_real_and_complex_shifts(loss, size, compact, shift):
    problem, params = example(loss, size, compact)
    pieces = arrows.arrow(params, problem)
    right = ufm.init(jax.random.key(2), problem, compact=compact)
    right = ufm.Params(right.W, right.H, jnp.array([1.0, 2.0, -1.0]))
    # A row that stands for m samples weighs m in the metric.
    metric = (
        np.ones(params.W.size + len(params.b)),
        np.repeat(pieces.multiplicity, right.H.shape[1]),
    )
    matrix = assembled(pieces) - shift * np.diag(np.concatenate(metric))
    found = solved(pieces, right, jnp.asarray(shift))
    expected = np.linalg.solve(matrix, flattened(right))
    np.testing.assert_allclose(flattened(found), expected, atol=1e-11 * np.abs(expected).max())
