"""Geometry of normalised convolutions: with a flat preconditioner they are plain ones."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ncjax.checks import InputError
from ncjax.models import preconditioned

RNG = np.random.default_rng(0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("path", preconditioned.PATHS)
@pytest.mark.parametrize(
    ("size", "kernel", "strides", "padding", "dilation", "groups"),
    [
        ((8, 9), (3, 3), (1, 1), "SAME", (1, 1), 1),
        ((8, 7), (5, 2), (2, 3), ((0, 4), (7, 1)), (1, 2), 1),
        ((6, 6), (3, 3), (2, 2), "VALID", (2, 1), 2),
        ((9,), (4,), (2,), ((3, 1),), (2,), 2),
    ],
)
def test_a_flat_preconditioner_leaves_the_convolution(
    size, kernel, strides, padding, dilation, groups, path
):
    x = RNG.normal(size=(2, *size, 4))
    taps = preconditioned.dilated(RNG.normal(size=(*kernel, 4 // groups, 6)), dilation)
    axes = preconditioned.geometry(size, kernel, strides, padding, dilation)
    flat = jnp.ones_like(preconditioned.preconditioner(taps, axes))
    found = preconditioned.convolve_normalised(x, taps, axes, groups, flat, path)
    names = ("NHWC", "HWIO", "NHWC") if len(size) == 2 else ("NWC", "WIO", "NWC")
    pads = [(axis.low, axis.high) for axis in axes]
    settings = {"dimension_numbers": names, "feature_group_count": groups}
    expected = lax.conv_general_dilated(x, taps, strides, pads, **settings)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_spectrum_is_that_of_the_kernels_transforms():
    kernel = RNG.normal(size=(3, 2, 4, 5))
    whole = np.fft.fft2(kernel, (6, 7), axes=(0, 1))
    expected = np.square(np.abs(whole)).sum(2)[:, :4]
    np.testing.assert_allclose(preconditioned.spectrum(kernel, (6, 7)), expected, rtol=1e-10)


def test_a_kernel_wider_than_the_padded_input_is_refused():
    with pytest.raises(InputError, match="`kernel_size`: got 5 wide, dilation included"):
        preconditioned.geometry((4,), (3,), (1,), "VALID", (2,))
