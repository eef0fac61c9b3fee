import numpy as np
import pytest

from ncjax import sop
from ncjax.checks import InputError

NOISE = sop.Noise(
    u=np.array([[0.1], [1.0], [0.0], [0.8]], np.float32),
    v=np.array([[0, 0, 0], [0, 0.2, 0.9], [0.001, 0, 0], [1.0, 0.5, 0]], np.float32),
)
LABELS = np.array([0, 1, 2, 0])


def test_the_most_suspicious_samples_come_first_with_the_class_that_v_points_to():
    table = sop.label_issues(NOISE, LABELS)
    assert list(table["sample"]) == [1, 3, 0, 2]
    np.testing.assert_allclose(table["score"], [1.81, 0.89, 0.01, 1e-6], rtol=1e-5)
    assert list(table["given"]) == [1, 0, 0, 2]
    # Not the label itself, whose v stands for nothing, and nothing where v has not grown.
    assert list(table["suggested"]) == [2, 1, 0, 2]
    assert list(table["wrong"]) == [True, True, False, False]
    assert sop.noise_rate(NOISE) == 0.5


def test_labels_must_fit():
    with pytest.raises(InputError, match="`labels`"):
        sop.label_issues(NOISE, LABELS[:3])
    with pytest.raises(InputError, match="`labels`"):
        sop.label_issues(NOISE, LABELS + 1)
