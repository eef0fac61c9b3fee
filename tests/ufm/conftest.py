"""One small atlas for all tests of the landscape: four losses, every rank, solved once."""

import jax
import pandas as pd
import pytest

from ncjax import ufm

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
