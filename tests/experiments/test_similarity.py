import numpy as np
import pytest

from experiments import similarity


def test_alignment_is_one_for_rotations_and_small_for_strangers():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert similarity.cka(features, 3 * features @ rotation + 1) == pytest.approx(1)
    assert similarity.cka(features, rng.normal(size=(500, 6))) < 0.05
