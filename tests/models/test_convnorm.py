"""Convolutional normalisation against dense matrices, and its six properties."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.models import ConvNorm, preconditioned

RNG = np.random.default_rng(0)


def operators(kernel, size, pads, groups):
    """A_k of every output channel on the full grid, `[O, grid, C size]`, a tap at a time."""
    sizes, (inputs, outputs) = kernel.shape[:-2], kernel.shape[-2:]
    full = [(max(k - 1, low), max(k - 1, high)) for k, (low, high) in zip(sizes, pads, strict=True)]
    grid = [n + sum(f) - k + 1 for n, f, k in zip(size, full, sizes, strict=True)]
    channels = inputs * groups
    A = np.zeros((outputs, *grid, channels, *grid))
    for k in range(outputs):
        first = k // (outputs // groups) * inputs
        for place, tap in itertools.product(np.ndindex(*grid), np.ndindex(*sizes)):
            there = tuple((p + t) % n for p, t, n in zip(place, tap, grid, strict=True))
            A[(k, *place, slice(first, first + inputs), *there)] += kernel[tap][:, k]
    return A.reshape(outputs, np.prod(grid), -1), grid


def isometries(A):
    """(A_k A_k^T)^(-1/2) A_k."""
    values, vectors = np.linalg.eigh(A @ A.swapaxes(1, 2))
    return vectors / np.sqrt(values)[:, None] @ vectors.swapaxes(1, 2) @ A


def by_matrices(x, kernel, strides, pads, dilation, groups):
    """The layer's output, without filter or batch normalisation."""
    kernel = np.asarray(preconditioned.dilated(kernel, dilation))
    size, sizes = x.shape[1:-1], kernel.shape[:-2]
    A, grid = operators(kernel, size, pads, groups)
    Q = isometries(A)
    wide = np.zeros((len(x), x.shape[-1], *grid))
    wide[(..., *(slice(n) for n in size))] = np.moveaxis(x, -1, 1)
    full = np.einsum("kij,nj->nik", Q, wide.reshape(len(x), -1)).reshape(len(x), *grid, -1)
    for axis, (n, k, (low, high), s) in enumerate(zip(size, sizes, pads, strides, strict=True)):
        count = (n + low + high - k) // s + 1
        places = (s * np.arange(count) - low) % grid[axis]
        full = np.take(full, places, axis=1 + axis)
    return full


CASES = {
    "3x3": ((6, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "strides": ((7, 6), (3, 2), (2, 3), ((1, 0), (2, 1)), (1, 1), 1),
    "dilation": ((6, 6), (2, 3), (1, 2), ((0, 2), (3, 1)), (3, 2), 1),
    "groups": ((5, 4), (3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "depthwise": ((4, 5), (2, 2), (1, 1), ((0, 1), (1, 0)), (1, 1), 4),
    "wide padding": ((4, 4), (2, 3), (1, 2), ((3, 4), (5, 3)), (1, 1), 1),
    "columns": ((4, 6), (1, 3), (1, 2), ((0, 0), (1, 1)), (1, 1), 1),
    "one tap": ((4, 5), (1, 1), (2, 1), ((0, 1), (0, 0)), (1, 1), 2),
    "signals": ((9,), (4,), (2,), ((3, 1),), (2,), 2),
    "valid": ((5, 5), (5, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
}


def layer(case, path=None, **settings):
    _, sizes, strides, pads, dilation, groups = CASES[case]
    settings = {"affine": False, "algorithm": path} | settings
    return ConvNorm(8, sizes, strides, pads, dilation, groups, dtype=jnp.float64, **settings)


@pytest.fixture(params=list(CASES))
def case(request):
    return request.param


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("path", preconditioned.PATHS)
def test_the_layer_is_a_product_with_dense_matrices(case, path):
    size, _, strides, pads, dilation, groups = CASES[case]
    x = RNG.normal(size=(2, *size, 4))
    net = layer(case, path)
    variables = net.init(jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    expected = by_matrices(x, kernel, strides, pads, dilation, groups)
    np.testing.assert_allclose(jax.jit(net.apply)(variables, x), expected, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_channels_are_isometries_on_the_full_grid_and_no_more_than_that_after_cropping(case):
    size, sizes, strides, pads, dilation, groups = CASES[case]
    kernel = preconditioned.dilated(RNG.normal(size=(*sizes, 4 // groups, 8)), dilation)
    axes = preconditioned.geometry(size, sizes, strides, pads, dilation)
    A, grid = operators(np.asarray(kernel), size, pads, groups)
    Q = isometries(A)
    for one in Q:
        np.testing.assert_allclose(one @ one.T, np.eye(len(one)), atol=1e-8)
    # Unit rows: the preconditioner times the spectrum is one at every frequency.
    factor = preconditioned.preconditioner(kernel, axes)
    flat = (1,) * len(grid) if preconditioned.pointwise(axes) else grid
    spectrum = preconditioned.spectrum(kernel, flat)
    np.testing.assert_allclose(factor**2 * spectrum, 1, atol=1e-8)
    # The whole layer: C_out unit rows at each frequency.
    norm = np.linalg.norm(Q.reshape(-1, Q.shape[-1]), 2)
    assert max(1, np.sqrt(8 / 4)) - 1e-8 <= norm <= np.sqrt(8) + 1e-8
    net = layer(case)
    variables = {"params": {"kernel": jnp.asarray(RNG.normal(size=(*sizes, 4 // groups, 8)))}}
    basis = np.eye(4 * int(np.prod(size))).reshape(-1, *size, 4)
    rows = np.asarray(jax.jit(net.apply)(variables, basis))
    for k in range(8):
        assert np.linalg.norm(rows[..., k].reshape(len(basis), -1), 2) <= 1 + 1e-8


@pytest.mark.usefixtures("x64")
def test_multiples_of_filters_change_nothing(case):
    x = RNG.normal(size=(2, *CASES[case][0], 4))
    net = layer(case)
    variables = net.init(jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["kernel"])
    scaled = {"params": {"kernel": kernel * 10.0 ** RNG.uniform(-2, 2, 8)}}
    np.testing.assert_allclose(net.apply(scaled, x), net.apply(variables, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", preconditioned.PATHS)
@pytest.mark.parametrize("through", [False, True])
def test_gradients_are_finite_even_where_filters_are_zero(path, through):
    x = RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
    net = ConvNorm(4, 3, algorithm=path, through=through)
    params = net.init(jax.random.key(0), x)["params"]
    for kernel in (params["kernel"].at[..., 1].set(0), 0 * params["kernel"]):
        changed = params | {"kernel": kernel}
        value, slopes = jax.value_and_grad(lambda p: jnp.square(net.apply({"params": p}, x)).sum())(
            changed
        )
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_gradients_agree_between_paths_and_pass_the_preconditioner_if_told():
    x = RNG.normal(size=(2, 7, 6, 3)).astype(np.float32)
    params = ConvNorm(4, 3).init(jax.random.key(0), x)["params"]
    weights = RNG.normal(size=(2, 4, 3, 4)).astype(np.float32)
    slopes = {}
    for path, through in itertools.product(preconditioned.PATHS, (False, True)):
        net = ConvNorm(4, 3, strides=2, algorithm=path, through=through)
        slopes[path, through] = jax.grad(
            lambda p, net=net: (weights * net.apply({"params": p}, x)).sum()
        )(params)["kernel"]
    for through in (False, True):
        np.testing.assert_allclose(*(slopes[p, through] for p in preconditioned.PATHS), atol=1e-4)
    # What is invariant to scale has no slope along it; a constant preconditioner hides that.
    radial = [(slopes["fourier", t] * params["kernel"]).sum((0, 1, 2)) for t in (False, True)]
    assert np.abs(radial[0]).max() > 0.1
    np.testing.assert_allclose(radial[1], 0, atol=1e-4)


def test_the_filter_starts_as_the_identity_and_is_a_depthwise_convolution():
    x = RNG.normal(size=(2, 6, 5, 3)).astype(np.float32)
    net = ConvNorm(4, (3, 2))
    variables = net.init(jax.random.key(0), x)
    plain = ConvNorm(4, (3, 2), affine=False)
    bare = {"params": {"kernel": variables["params"]["kernel"]}}
    y = plain.apply(bare, x)
    np.testing.assert_allclose(net.apply(variables, x), y, atol=1e-6)
    filters = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    bias = np.arange(4, dtype=np.float32)
    found = net.apply({"params": variables["params"] | {"filter": filters, "bias": bias}}, x)
    expected = jax.lax.conv_general_dilated(
        y,
        filters[:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )
    np.testing.assert_allclose(found, np.asarray(expected) + bias, atol=1e-5)


def test_batch_normalisation_may_follow():
    x = RNG.normal(size=(16, 6, 5, 3)).astype(np.float32)
    net = ConvNorm(4, 3, batch_norm=True)
    y, _ = net.init_with_output(jax.random.key(0), x, train=True)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-3)


def test_in_inference_the_preconditioner_is_that_of_the_weights_or_a_running_average():
    x = RNG.normal(size=(2, 6, 5, 3)).astype(np.float32)
    exact, average = ConvNorm(4, 3), ConvNorm(4, 3, use_running_average=True)
    first = average.init(jax.random.key(0), x)
    assert exact.init(jax.random.key(0), x).keys() == {"params"}
    moved = jax.tree.map(lambda p: p + 0.1, first["params"])
    stats = first["batch_stats"]
    stale = average.apply({"params": moved, "batch_stats": stats}, x)
    assert np.abs(stale - exact.apply({"params": moved}, x)).max() > 1e-2
    trained, new = average.apply(
        {"params": moved, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(trained, exact.apply({"params": moved}, x), atol=1e-6)
    assert new["batch_stats"]["step"] == 1
    fresh = average.apply({"params": moved, **new}, x)  # the first share is the whole
    np.testing.assert_allclose(fresh, trained, atol=1e-5)
    with pytest.raises(InputError, match=r"grid.*use_running_average"):
        average.apply({"params": moved, **new}, np.zeros((2, 9, 9, 3), np.float32))
    assert exact.apply({"params": moved}, np.zeros((2, 9, 9, 3), np.float32)).shape[1] == 9


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"kernel_size": 9, "padding": "VALID"}, (2, 6, 6, 3), "`kernel_size`: got 9 wide"),
        ({"kernel_dilation": 3, "padding": 0}, (2, 6, 6, 3), "at most the padded input's 6"),
        ({"feature_group_count": 2}, (2, 6, 6, 3), "multiple of the 2 groups"),
        ({"kernel_size": (3, 3, 3)}, (2, 6, 6, 3), "each of 2 axes"),
        ({"padding": -1}, (2, 6, 6, 3), "`padding`"),
        ({"padding": "SAIM"}, (2, 6, 6, 3), "Did you mean 'SAME'"),
        ({"strides": 0}, (2, 6, 6, 3), "at least 1"),
        ({}, (6, 3), "`x`: got shape"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_what_does_not_fit_is_refused(settings, shape, message):
    with pytest.raises(InputError, match=message):
        ConvNorm(4, **settings).init(jax.random.key(0), np.zeros(shape, np.float32))


@pytest.mark.usefixtures("no_type_checks")
def test_complex_inputs_are_refused():
    with pytest.raises(InputError, match="complex64"):
        ConvNorm(4).init(jax.random.key(0), np.zeros((2, 6, 6, 3), np.complex64))


@pytest.mark.parametrize("path", preconditioned.PATHS)
@pytest.mark.parametrize("size", [1, 3])
def test_second_derivatives_pass_the_native_layer(size, path):
    x = RNG.normal(size=(2, 5, 5, 2)).astype(np.float32)
    net = ConvNorm(3, size, algorithm=path)
    params = jax.jit(net.init)(jax.random.key(0), x)["params"]
    towards = jax.tree.map(np.ones_like, params)

    def value(params):
        return jnp.square(net.apply({"params": params}, x)).sum()

    slopes, product = jax.jit(lambda p, v: jax.jvp(jax.grad(value), (p,), (v,)))(params, towards)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((slopes, product)))
    trained = net.clone(convolution="product")
    others = jax.jit(jax.grad(lambda p: jnp.square(trained.apply({"params": p}, x)).sum()))(params)
    for name, slope in slopes.items():
        np.testing.assert_allclose(others[name], slope, rtol=1e-4, atol=1e-4)
