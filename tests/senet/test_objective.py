import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import parallel
from ncjax.senet.elastic_net import ElasticNet
from ncjax.senet.model import SelfExpressiveNet, initial_parameters
from ncjax.senet.objective import (
    Points,
    Problem,
    blocks_of,
    two_pass_value_and_gradient,
    value_and_gradient,
)

MODEL = SelfExpressiveNet((12, 9), 8, "official")
NET = ElasticNet(30.0, 0.8)


def case(N=23, D=5, B=6, block=7, dtype=np.float64):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(N, D)).astype(dtype)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    rows = rng.permutation(N)[:B].astype(np.int32)
    problem = Problem(blocks_of(points, block), jnp.asarray(points.mean(0)), NET)
    params = initial_parameters(MODEL, jax.random.key(0), D)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params | {"offset": 0.05})
    return points, Points(points[rows], rows), problem, params


def assert_close(one, other, tolerance):
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * size), one, other)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("block", [1, 7, 23, 100])
def test_two_passes_give_the_gradient_of_one_graph(block):
    _, batch, problem, params = case(block=block)
    expected = value_and_gradient(MODEL, params, batch, problem)
    assert_close(two_pass_value_and_gradient(MODEL, params, batch, problem), expected, 1e-12)


def test_in_float32_to_its_precision():
    _, batch, problem, params = case(dtype=np.float32)
    expected = value_and_gradient(MODEL, params, batch, problem)
    assert_close(two_pass_value_and_gradient(MODEL, params, batch, problem), expected, 1e-6)


@pytest.mark.usefixtures("x64")
def test_the_value_is_the_papers_objective_without_the_diagonal():
    points, batch, problem, params = case()
    found, _ = value_and_gradient(MODEL, params, batch, problem)
    inputs = (points - points.mean(0)) * np.sqrt(points.shape[1])
    u, v = MODEL.apply({"params": params}, inputs)
    total = 0.0
    for i in np.asarray(batch.rows):
        others = [j for j in range(len(points)) if j != i]
        inner = np.array([u[i] @ v[j] for j in others])
        c = np.sign(inner) * np.maximum(np.abs(inner) - 0.05, 0) / 8
        residual = points[i] - c @ points[others]
        total += 15 * residual @ residual + 0.8 * np.abs(c).sum() + 0.1 * c @ c
    np.testing.assert_allclose(found, total / len(batch.rows), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_devices_share_the_keys():
    points, batch, problem, params = case()
    expected = value_and_gradient(MODEL, params, batch, problem)
    blocks = blocks_of(points, 5, shards=4)
    shares = jax.tree.map(lambda leaf: leaf.reshape(4, -1, *leaf.shape[1:]), blocks)

    def work(params, batch, blocks, mean):
        share = dataclasses.replace(problem, blocks=blocks, mean=mean)
        return two_pass_value_and_gradient(MODEL, params, batch, share, parallel.AXIS)

    run = parallel.across_devices(
        work, in_axes=(None, None, 0, None), out_axes=(None, None), backend="vmap"
    )
    assert_close(run(params, batch, shares, problem.mean), expected, 1e-12)


def test_memory_does_not_grow_with_the_number_of_points():
    def held(N):
        _, batch, problem, params = case(N=N, block=50, dtype=np.float32)
        step = jax.jit(lambda p, b, q: two_pass_value_and_gradient(MODEL, p, b, q))
        return step.lower(params, batch, problem).compile().memory_analysis().temp_size_in_bytes

    assert held(4000) <= 1.05 * held(400)
