import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.metrics import centred_means, class_moments, collapse, mean_span

K, N, d = 5, 200, 12
rng = np.random.default_rng(0)
labels = rng.integers(0, K, N)
W, b = rng.normal(size=(K, d)), rng.normal(size=K)


def case(spread):
    return 3 + rng.normal(size=(K, d))[labels] + spread * rng.normal(size=(N, d))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_a_second_pass_along_the_means_gives_what_the_whole_scatter_gives(spread):
    features = case(spread)
    whole = collapse(class_moments(features, labels, K), W, b)
    light = class_moments(features, labels, K, scatter=False)
    assert light.scatter is None
    span = mean_span(centred_means(light))
    variance = span.squared_coordinates(features, labels, light).mean(0)
    found = collapse(light, W, b, span=dataclasses.replace(span, variance=variance))
    for name, value in whole.as_dict().items():
        np.testing.assert_allclose(found.as_dict()[name], value, rtol=1e-9, err_msg=name)


def test_float32_keeps_its_digits_near_collapse():
    features = case(1e-4).astype(np.float32)
    light = class_moments(features, labels, K, scatter=False)
    span = mean_span(centred_means(light))
    variance = span.squared_coordinates(features, labels, light).mean(0)
    found = collapse(light, span=dataclasses.replace(span, variance=variance)).nc1_pinv
    with jax.enable_x64(True):
        expected = collapse(class_moments(features.astype(np.float64), labels, K)).nc1_pinv
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_many_rows_are_projected_in_blocks(monkeypatch):
    features = case(1.0).astype(np.float32)
    light = class_moments(features, labels, K, scatter=False)
    span = mean_span(centred_means(light))
    whole = span.squared_coordinates(features, labels, light)
    monkeypatch.setattr("ncjax.metrics.blocks.BLOCK", 23)
    np.testing.assert_allclose(span.squared_coordinates(features, labels, light), whole, rtol=1e-5)


def test_moments_without_scatter_are_updated_merged_and_summed_over_devices_all_the_same():
    features = case(1.0).astype(np.float32)
    light = class_moments(features, labels, K, scatter=False)
    parts = type(light).zeros(K, d, jnp.float32, scatter=False)
    for rows in np.array_split(np.arange(N), 3):
        parts = parts.update(features[rows], labels[rows])
    halves = features.reshape(2, N // 2, d), labels.reshape(2, N // 2)
    summed = jax.vmap(
        lambda h, y: class_moments(h, y, K, scatter=False).psum("devices"),
        out_axes=None,
        axis_name="devices",
    )(*halves)
    for other in (parts, summed):
        assert other.scatter is None
        np.testing.assert_allclose(other.means, light.means, rtol=1e-5)
        np.testing.assert_allclose(other.class_scatter, light.class_scatter, rtol=1e-4)


def test_without_scatter_and_span_nothing_is_made_up():
    with pytest.raises(InputError, match="`span`.*without scatter"):
        collapse(class_moments(case(1.0), labels, K, scatter=False))
