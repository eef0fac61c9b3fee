import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import bench_landscape as bench
from experiments.benchmarks import landscape_cost as cost
from experiments.benchmarks import landscape_points as points
from ncjax import ufm
from ncjax.ufm import arrow as arrows

pytestmark = pytest.mark.usefixtures("x64")


def test_operations_of_the_schur_complement_are_those_that_are_compiled():
    K, d, n = 6, 9, 4
    problem = ufm.Problem(K, d, n, "focal", 5e-4, 5e-4, 1e-2)
    pieces = arrows.arrow(ufm.init(jax.random.key(0), problem), problem)
    run = jax.jit(lambda inverses: arrows.eliminated(pieces, jnp.asarray(0.0), inverses).schur)
    counted = run.lower(jnp.zeros((K * n, d, d))).compile().cost_analysis()["flops"]
    rows = K * n
    products = rows * (4 * K**2 * d + 2 * K * d**2)
    assert counted == pytest.approx(cost.schur_operations(K, d, rows) + products, rel=0.1)


def test_points_of_the_benchmark_are_those_of_the_sweep():
    size = points.Size(3, 4, 2)
    row = bench.throughput(size, 6, rate=1e9, together=1)
    assert row["converged"] == 1
    assert row["points a second"] > 0
    asked = points.grid("cross_entropy", size, starts=2)
    shape, items = asked.programs()[0]
    found, *_ = points.timed_sweep(
        points.certified(shape), items, rounds=1, key=jax.random.key(asked.seed), together=1
    )
    table = ufm.landscape(asked, show_progress=False)
    assert (found["steps"] == table["steps"]).all()
    assert (found["counts"][:, 0] == table["negative"]).all()
    assert found["objective"] == pytest.approx(table["objective"].to_numpy(), rel=1e-12)
