"""What the tests of the estimators share."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def planes():
    """Points near four planes in nine dimensions, and their planes."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    bases = np.linalg.qr(rng.normal(size=(4, 9, 2)))[0]
    points = np.einsum("ndk,nk->nd", bases[labels], rng.normal(size=(200, 2)))
    points += 0.02 * rng.normal(size=points.shape)
    return points.astype("f4"), labels
