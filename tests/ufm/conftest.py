"""What the tests of the landscape share.

Problems, points with their dense Hessians, and one small atlas: four losses, every rank, solved
once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from ncjax import ufm

_HYPERPARAMETERS = {"mse": {"scale": 2.0, "target": 3.0}, "focal": {"gamma": 2.0}}
KINDS = {
    "cross entropy": ("cross_entropy", {}, 1e-2),
    "label smoothing, free shift": ("label_smoothing", {"smoothing": 0.2}, 0.0),
    "focal": ("focal", {"gamma": 2.0}, 1e-2),
    "MSE, free bias": ("mse", {"scale": 3.0, "target": 2.0}, 0.0),
    "MSE with a common component": ("mse", {"target": 15.0}, 0.1),
}
"""Loss, hyperparameters and bias decay of the kinds of symmetric minimiser that there are."""
GRID = ufm.Grid(
    num_classes=(4,),
    feature_dim=(6,),
    samples_per_class=(3,),
    lambda_w=(1e-3, 8e-3),
    lambda_h=(2e-3,),
    lambda_b=(0.0, 0.1),
    gamma=(2.0,),
    scale=(1.0, 3.0),
    ranks=(0, 1, 2, 3, 4),
    starts=2,
    dense_limit=500,
)


@pytest.fixture(scope="session")
def atlas() -> pd.DataFrame:
    with jax.enable_x64(True):
        return ufm.landscape(GRID, chunk=32, backend="vmap", show_progress=False)


@pytest.fixture(autouse=True)
def _x64(x64: None) -> None:
    """All of the landscape is tested in float64."""


def make(loss, size):
    return ufm.Problem(*size, loss, 5e-3, 2e-3, 1e-2, _HYPERPARAMETERS.get(loss, {}))


@jax.jit
def hessians(points, problem):
    def one(params):
        flat, unravel = jax.flatten_util.ravel_pytree(params)
        return jax.hessian(lambda v: ufm.objective(unravel(v), problem))(flat)

    return jax.vmap(one)(points)


def dense(points, problem):
    """All eigenvalues, ascending, one row a point."""
    return np.linalg.eigvalsh(hessians(points, problem))


def dense_spectrum(problem):
    """All eigenvalues, ascending, at the minimiser."""
    best = ufm.minimizer(problem, compact=True).params  # as compiled for the exact spectrum
    columns = ((0, 0), (0, problem.feature_dim - best.W.shape[1]))
    H = np.pad(np.asarray(best.H)[problem.labels], columns)
    whole = ufm.Params(np.pad(best.W, columns), H, np.asarray(best.b))
    return dense(jax.tree.map(lambda leaf: leaf[None], whole), problem)[0]


@jax.jit
def points(problem):
    """Three random points of several scales, and critical ones of the ranks 0, 1, 2."""
    keys = jax.random.split(jax.random.key(0), 3)
    random = jax.vmap(lambda key, scale: ufm.init(key, problem, scale))(
        keys, jnp.array([0.1, 1.0, 3.0])
    )
    solved = jax.vmap(lambda r: ufm.critical_point(keys[0], problem, r).params)(jnp.arange(3))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), random, solved)
