import numpy as np
import pytest
import scipy.linalg

from ncjax import metrics
from ncjax.checks import InputError

RNG = np.random.default_rng(0)
A = RNG.normal(size=(400, 4)) @ RNG.normal(size=(4, 4))
B = RNG.normal(size=(300, 4)) + 1


def test_it_is_the_formula_with_a_matrix_root():
    a, b = np.cov(A, rowvar=False), np.cov(B, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.square(A.mean(0) - B.mean(0)).sum() + np.trace(a + b - 2 * root)
    assert metrics.frechet_distance(A, B) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_distance(B, A) == pytest.approx(expected, rel=1e-8)


def test_nothing_is_apart_from_itself_and_a_shift_counts_its_square():
    assert metrics.frechet_distance(A, A) == pytest.approx(0, abs=1e-8)
    assert metrics.frechet_distance(A, A + 2.0) == pytest.approx(16, rel=1e-8)
    flat = np.repeat(A[:, :1], 3, axis=1)  # of rank one
    assert metrics.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("no_type_checks")
def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="`b`"):
        metrics.frechet_distance(A, B[:, :3])
    with pytest.raises(InputError, match="`a`: got 1 sample"):
        metrics.frechet_distance(A[:1], B)
