import jax
import numpy as np
import pytest

from ncjax import data, tgt
from ncjax.checks import InputError

images = data.load("digits").images


def test_codes_are_white_and_lead_back_to_the_nearest_point_of_the_span():
    generator = tgt.principal(images, 10)
    z = np.asarray(generator.encode(images))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(z.T), np.eye(10), atol=1e-3)
    flat = images.reshape(len(images), -1)
    centred = flat - flat.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:10]
    nearest = np.clip(centred @ axes.T @ axes + flat.mean(0), 0, 1)
    np.testing.assert_allclose(generator.decode(z).reshape(flat.shape), nearest, atol=1e-4)
    assert generator.sample(jax.random.key(0)).shape == (10,)


def test_all_components_give_back_the_examples():
    x = np.random.default_rng(0).normal(size=(40, 3, 2)).astype(np.float32)
    generator = tgt.principal(x, 6)
    np.testing.assert_allclose(generator.decode(generator.encode(x)), x, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 65, 64])
def test_dimensions_that_examples_do_not_span_are_refused(dim):
    with pytest.raises(InputError, match="`dim`"):
        tgt.principal(images, dim)
