import jax
import numpy as np
import pytest

from ncjax.models import gan


@pytest.mark.usefixtures("no_type_checks")
def test_noise_becomes_images_and_images_scores():
    z = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    images, _ = gan.Generator(3, channels=2).init_with_output(jax.random.key(0), z, train=True)
    assert images.shape == (4, 28, 28, 2)
    assert images.min() >= 0
    assert images.max() <= 1
    for norm in ("none", "spectral", "conv"):
        net = gan.Discriminator(norm, 3)
        scores, variables = net.init_with_output(jax.random.key(1), images, train=True)
        assert scores.shape == (4,)
        assert ("batch_stats" in variables) == (norm == "spectral")


def test_hinge_losses_want_margins_of_one():
    real, fake = np.array([2.0, 0.5], np.float32), np.array([-2.0, 0.0], np.float32)
    of_discriminator, of_generator = gan.hinge_losses(real, fake)
    assert of_discriminator == pytest.approx(0.25 + 0.5)
    assert of_generator == pytest.approx(1.0)
