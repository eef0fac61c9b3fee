import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ncjax.models import newton_orthogonal, orthogonality

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)


def matrix(kernel, size, stride):
    """Of the convolution with all its padding, `[outputs, inputs]`."""
    h, w, inputs, _ = kernel.shape
    basis = jnp.eye(size * size * inputs).reshape(-1, size, size, inputs)
    pads = [(h - 1, h - 1), (w - 1, w - 1)]
    names = ("NHWC", "HWIO", "NHWC")
    found = lax.conv_general_dilated(basis, kernel, (stride,) * 2, pads, dimension_numbers=names)
    return np.asarray(found).reshape(len(basis), -1).T


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 3, 1), (3, 5, 2)])
def test_the_penalty_sums_the_errors_of_one_row_of_each_channel(inputs, outputs, stride):
    kernel = RNG.normal(size=(3, 3, inputs, outputs))
    size = 9
    rows = matrix(kernel, size, stride)
    side = (size + 4 - 3) // stride + 1
    rows = rows.reshape(side, side, outputs, -1)
    middle = side // 2  # whose kernels see no border
    gram = np.einsum("ki,abji->kabj", rows[middle, middle], rows)
    target = np.zeros_like(gram)
    target[:, middle, middle] = np.eye(outputs)
    expected = np.square(gram - target).sum()
    np.testing.assert_allclose(orthogonality(kernel, stride), expected, rtol=1e-10)


def test_columns_are_compared_where_there_are_more_rows():
    kernel = RNG.normal(size=(3, 2, 2, 5))
    np.testing.assert_allclose(orthogonality(kernel), orthogonality(kernel.swapaxes(2, 3)))
    columns = np.linalg.qr(RNG.normal(size=(5, 2)))[0]
    shift = np.zeros((3, 2, 2, 5))
    shift[2, 1] = columns.T  # an isometry at one shift
    np.testing.assert_allclose(orthogonality(shift), 0, atol=1e-20)
    of_rows = np.zeros((2, 2, 2, 9))
    of_rows[:] = np.linalg.qr(RNG.normal(size=(9, 8)))[0].T.reshape(2, 2, 2, 9)
    np.testing.assert_allclose(orthogonality(of_rows, 2), 0, atol=1e-20)


def test_newtons_iteration_makes_output_channels_orthonormal():
    kernel = RNG.normal(size=(3, 3, 4, 6))
    found = newton_orthogonal(kernel, 15).reshape(-1, 6)
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    few = np.linalg.svd(newton_orthogonal(kernel).reshape(-1, 6), compute_uv=False)
    assert few.max() < 1.01
    assert few.min() > 0.5
    np.testing.assert_array_equal(newton_orthogonal(0 * kernel), 0 * kernel)
