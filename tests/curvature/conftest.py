"""Matrices and networks with known spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import losses, ufm


def with_spectrum(spectrum, seed=0):
    """A symmetric matrix of prescribed eigenvalues, float64."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum),) * 2))[0]
    A = Q @ np.diag(spectrum) @ Q.T
    return (A + A.T) / 2, Q


def matvec(vector, A):
    return jnp.matmul(A, vector, precision="highest")


class Classifier:
    """A small two-layer classifier on random data: 13 examples, 35 parameters."""

    def __init__(self):
        self.x = jax.random.normal(jax.random.key(0), (13, 4))
        self.y = jnp.arange(13) % 3
        self.params = {
            "first": {"kernel": jax.random.normal(jax.random.key(1), (4, 5))},
            "head": {"kernel": jax.random.normal(jax.random.key(2), (5, 3))},
        }

    def outputs(self, params, x):
        return jnp.tanh(x @ params["first"]["kernel"]) @ params["head"]["kernel"]

    def losses(self, params, x, y):
        return losses.cross_entropy(self.outputs(params, x), y)

    def mean_loss(self, params):
        decay = sum((leaf**2).sum() for leaf in jax.tree.leaves(params))
        return self.losses(params, self.x, self.y).mean() + 0.05 * decay

    @property
    def data(self):
        return self.x, self.y


@pytest.fixture
def classifier(request):
    request.getfixturevalue("x64")
    return Classifier()


@pytest.fixture(scope="session")
def problem():
    """A small unconstrained feature model: 39 parameters."""
    with jax.enable_x64(True):
        return ufm.Problem(
            num_classes=3,
            feature_dim=4,
            samples_per_class=2,
            loss="cross_entropy",
            lambda_w=5e-3,
            lambda_h=5e-3,
            lambda_b=5e-3,
        )
