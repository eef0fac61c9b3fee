import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from ncjax import tgt

rng = np.random.default_rng(0)
f, h = (2 * rng.normal(size=(2, 5, 4))).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_disagreement_is_the_divergence_of_softened_classes(temperature):
    p, q = (softmax(z / temperature, axis=1) for z in (h, f))
    expected = rel_entr(p, q).sum(1)
    np.testing.assert_allclose(tgt.disagreement(f, h, temperature), expected, rtol=1e-4)
    of_student = temperature**2 * expected
    np.testing.assert_allclose(tgt.distillation(f, h, temperature), of_student, rtol=1e-4)
    np.testing.assert_allclose(tgt.disagreement(h + 3, h, temperature), 0, atol=1e-6)


def test_distillation_moves_the_student_alone():
    of_student, of_labeler = jax.grad(lambda f, h: tgt.distillation(f, h).sum(), (0, 1))(f, h)
    assert np.abs(of_student).max() > 0
    assert not np.asarray(of_labeler).any()


def test_confidence_follows_the_largest_probability():
    largest = softmax(h, axis=1).max(1)
    np.testing.assert_allclose(tgt.confidence(h), largest, rtol=1e-5)
    kept = tgt.confidence(h, "threshold", 0.6)
    np.testing.assert_array_equal(kept, (largest >= 0.6).astype(np.float32))
    np.testing.assert_array_equal(tgt.confidence(jnp.asarray(h), "none"), np.ones(5))
