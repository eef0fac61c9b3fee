import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ncjax import curvature
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


def circular(x, kernel, groups=1):
    """In one or two dimensions, by padding with what is on the other side."""
    sizes = kernel.shape[:-2]
    padded = jnp.pad(x, ((0, 0), *((0, size - 1) for size in sizes), (0, 0)), mode="wrap")
    names = ("NHWC", "HWIO", "NHWC") if len(sizes) == 2 else ("NWC", "WIO", "NWC")
    strides = (1,) * len(sizes)
    settings = {"dimension_numbers": names, "feature_group_count": groups}
    return lax.conv_general_dilated(padded, kernel, strides, "VALID", **settings)


def matrix(linear, shape):
    size = int(np.prod(shape))
    images = jax.vmap(lambda row: linear(row.reshape(shape)).ravel())(jnp.eye(size))
    return np.asarray(images).T


@pytest.mark.parametrize(
    ("sizes", "grid", "inputs", "outputs", "groups"),
    [((3, 2), (4, 5), 2, 3, 1), ((3,), (7,), 4, 2, 1), ((2, 2), (3, 4), 4, 6, 2)],
)
def test_they_are_those_of_the_dense_matrix(sizes, grid, inputs, outputs, groups):
    kernel = np.random.default_rng(0).normal(size=(*sizes, inputs // groups, outputs))
    found = curvature.conv_singular_values(kernel, grid, groups=groups)
    assert found.shape[:-1] == grid
    dense = matrix(lambda x: circular(x, kernel, groups), (1, *grid, inputs))
    expected = np.linalg.svd(dense, compute_uv=False)
    np.testing.assert_allclose(np.sort(found.ravel())[::-1], expected, atol=1e-10)
    assert (np.diff(found.reshape(*grid, groups, -1), axis=-1) <= 1e-12).all()


def test_power_iteration_finds_the_norm_with_zero_padding_and_strides():
    kernel = np.random.default_rng(1).normal(size=(3, 3, 2, 4))

    def linear(x):
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (2, 1), "SAME", dimension_numbers=names)

    shape = (1, 6, 5, 2)
    exact = np.linalg.norm(matrix(linear, shape), 2)
    found = curvature.operator_norm(linear, jnp.zeros(shape), tolerance=1e-4)
    assert found.converged
    np.testing.assert_allclose(found.value, exact, rtol=1e-6)
    bound = curvature.conv_singular_values(kernel, (8, 7)).max()
    assert exact < bound
    few = curvature.operator_norm(linear, jnp.zeros(shape), num_steps=2, tolerance=1e-9)
    assert not few.converged
    assert few.value < exact


def test_maps_of_trees_and_a_map_to_zero_have_norms():
    found = curvature.operator_norm(
        lambda tree: {"sum": 2 * tree["a"], "rest": tree["b"]},
        {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))},
    )
    np.testing.assert_allclose(found.value, 2, rtol=1e-5)
    nothing = curvature.operator_norm(lambda x: 0.0 * x, jnp.zeros(3))
    assert nothing.value == 0
    assert nothing.converged


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda k: curvature.conv_singular_values(k, (2, 5)), "kernel"),
        (lambda k: curvature.conv_singular_values(k, (5,)), "kernel"),
        (lambda k: curvature.conv_singular_values(k, (5, 5), groups=3), "groups"),
        (lambda k: curvature.operator_norm(lambda x: x, k, num_steps=0), "num_steps"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused(call, argument):
    with pytest.raises(InputError, match=f"`{argument}`"):
        call(np.ones((3, 3, 2, 4)))
