import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.redunet import coding_rate, from_spectra, to_spectra

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("fft_norm", ["backward", "ortho"])
@pytest.mark.parametrize("shape", [(3, 5), (3, 6, 2), (3, 5, 2), (3, 4, 6, 2), (3, 6, 5, 2)])
def test_there_and_back_and_norms_are_those_over_positions(shape, fft_norm):
    features = np.random.default_rng(0).normal(size=shape)
    spectra = to_spectra(features, fft_norm)
    assert spectra.values.shape[1:] == (3, shape[-1])
    np.testing.assert_allclose(spectra.weights.sum(), np.prod(shape[1:-1]))
    np.testing.assert_allclose(from_spectra(spectra), features, atol=1e-12)
    norms = np.linalg.norm(features.reshape(3, -1), axis=1)
    np.testing.assert_allclose(spectra.norms(), norms, rtol=1e-12)


@pytest.mark.usefixtures("no_type_checks")
def test_what_is_neither_vectors_signals_nor_images_is_refused():
    for shape in ((3,), (2, 3, 4, 5, 6), (0, 3)):
        with pytest.raises(InputError, match=r"`features`: got shape.*\[N, d\]"):
            coding_rate(np.zeros(shape))
    with pytest.raises(InputError, match="`features`: got 1 entries that are NaN"):
        coding_rate(np.array([[1.0, np.nan]]))
    with pytest.raises(InputError, match="`eps`"):
        coding_rate(np.ones((2, 2)), 0.0)
