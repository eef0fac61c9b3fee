"""Section of `bench_curvature`: a batch of small problems."""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

from experiments.benchmarks.curvature_extreme import ARPACK, matfree_pairs
from experiments.benchmarks.curvature_networks import (
    Row,
    elapsed,
    peer,
    shortest,
)
from ncjax import curvature, ufm

PROBLEMS, SAMPLED = 1000, 20
"""Of the batch, and those of them on which the loops over peers are timed."""
BATCH_STEPS = 40


def batched_section() -> list[Row]:
    """The lowest eigenpair of each of 1,000 unconstrained feature models of 148 parameters.

    In float64. ncjax and, by `vmap`, matfree take all in one call; the loops over single problems
    are timed on some of them. All errors are those on these.
    """
    with jax.enable_x64(True):
        problems, points = small_problems()
        some = jax.tree.map(operator.itemgetter(slice(SAMPLED)), (problems, points))
        judge = functools.partial(batch_error, *exact_lowest(*some))
        rows = []
        for backend in ("dense", "lanczos"):
            calls = {"ncjax, one call": functools.partial(examine_all, backend)}
            if backend == "lanczos":
                calls["matfree, one call by `vmap`"] = matfree_all
            ours = None
            for tool, call in calls.items():
                started = time.perf_counter()
                lowest = jax.block_until_ready(call(problems, points))
                row: Row = {"way": backend, "tool": tool, "first call, s": elapsed(started)}
                row["time, s"] = shortest({"": functools.partial(call, problems, points)}, 5)[""]
                row["error / norm"] = judge(lowest[:SAMPLED])
                ours = ours or row["time, s"]
                rows.append({**row, "ours / this": ours / row["time, s"]})
            for tool, lowest_of in looped_peers(backend).items():
                values, seconds = looped(lowest_of, problems, points)
                row = {"way": backend, "tool": f"{tool}, in a loop", "time, s": seconds}
                row |= {"error / norm": judge(values), "ours / this": ours / seconds}
                rows.append(row)
    return rows


@functools.partial(jax.jit, static_argnums=0)
def examine_all(
    backend: Literal["dense", "lanczos"], problems: ufm.Problem, points: ufm.Params
) -> jax.Array:
    """The smallest eigenvalues, by `curvature.examine`; 50 at once stay in the cache."""

    def examined(both: tuple[ufm.Problem, ufm.Params]) -> jax.Array:
        problem, point = both
        hessian = curvature.hessian(ufm.objective, problem)
        steps = None if backend == "dense" else BATCH_STEPS
        found = curvature.examine(hessian, point, backend=backend, num_steps=steps)
        return found.escape_value

    return jax.lax.map(examined, (problems, points), batch_size=50)


@jax.jit
def matfree_all(problems: ufm.Problem, points: ufm.Params) -> jax.Array:
    """The smallest Ritz values, by matfree."""
    return jax.lax.map(lambda both: matfree_lowest(*both), (problems, points), batch_size=50)


def looped(
    lowest_of: Callable[[ufm.Problem, ufm.Params], Any],
    problems: ufm.Problem,
    points: ufm.Params,
) -> tuple[np.ndarray, float]:
    """The values of the first problems, and the seconds that a loop over all would take."""
    on_host = jax.device_get((problems, points))
    some = [jax.tree.map(operator.itemgetter(i), on_host) for i in range(SAMPLED)]

    def loop() -> np.ndarray:
        return np.array([float(lowest_of(*one)) for one in some])

    return loop(), shortest({"": loop}, rounds=3, warm=False)[""] * PROBLEMS / SAMPLED


def batch_error(exact: np.ndarray, norms: np.ndarray, lowest: Any) -> float:
    """The largest error of smallest eigenvalues, as a share of the norm."""
    return float((np.abs(np.asarray(lowest) - exact) / norms).max())


def small_problems() -> tuple[ufm.Problem, ufm.Params]:
    """1,000 models of K = 4, d = 9, n = 3, over weight decays, each at a random point."""

    def model(decay: jax.Array) -> ufm.Problem:
        return ufm.Problem(4, 9, 3, "cross_entropy", decay, decay, 1e-2)

    problems = jax.vmap(model)(jnp.geomspace(1e-4, 1e-1, PROBLEMS))
    keys = jax.random.split(jax.random.key(0), PROBLEMS)
    return problems, jax.vmap(lambda key: ufm.init(key, model(jnp.ones(())), 1.0))(keys)


def exact_lowest(problems: ufm.Problem, points: ufm.Params) -> tuple[np.ndarray, np.ndarray]:
    """Smallest eigenvalues and norms, of JAX's own dense Hessians."""
    values = np.linalg.eigvalsh(np.asarray(jax.vmap(jax_hessian)(problems, points)))
    return values[:, 0], np.abs(values).max(1)


def looped_peers(backend: str) -> dict[str, Callable[[ufm.Problem, ufm.Params], Any]]:
    """For each peer a function of one problem and point: the smallest eigenvalue."""
    peer("torch").set_num_threads(1)
    if backend == "dense":
        return {
            "torch.func.hessian + LAPACK": torch_dense,
            "jitted jax.hessian + LAPACK": jax_dense,
        }
    return {"matfree, jitted": jax.jit(matfree_lowest), ARPACK: arpack_lowest}


def torch_dense(problem: ufm.Problem, point: ufm.Params) -> float:
    """By torch's dense Hessian."""
    torch = peer("torch")
    labels = torch.tensor(problem.labels).long()
    shapes = [leaf.shape for leaf in jax.tree.leaves(point)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    decays = [float(d) for d in (problem.lambda_w, problem.lambda_h, problem.lambda_b)]

    def objective(flat: Any) -> Any:
        parts = [p.reshape(s) for p, s in zip(flat.split(sizes), shapes, strict=True)]
        W, H, b = parts
        fit = torch.nn.functional.cross_entropy(H @ W.T + b, labels)
        return fit + sum(0.5 * d * (p * p).sum() for d, p in zip(decays, parts, strict=True))

    flat = torch.tensor(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(point)]))
    return scipy.linalg.eigh(torch.func.hessian(objective)(flat).numpy(), driver="evd")[0][0]


@jax.jit
def jax_hessian(problem: ufm.Problem, point: ufm.Params) -> jax.Array:
    """The dense Hessian."""
    flat, unravel = ravel_pytree(point)
    return jax.hessian(lambda v: ufm.objective(unravel(v), problem))(flat)


def jax_dense(problem: ufm.Problem, point: ufm.Params) -> float:
    """By JAX's dense Hessian, one at a time."""
    return scipy.linalg.eigh(np.asarray(jax_hessian(problem, point)), driver="evd")[0][0]


def matfree_lowest(problem: ufm.Problem, point: ufm.Params) -> jax.Array:
    """The Rayleigh quotient of the lowest Ritz vector, by matfree's Lanczos."""
    _, unravel = ravel_pytree(point)
    of_trees = jax.linearize(jax.grad(lambda p: ufm.objective(p, problem)), point)[1]

    def product(vector: jax.Array) -> jax.Array:
        return ravel_pytree(of_trees(unravel(vector)))[0]

    vector = matfree_pairs(product, jnp.asarray(batch_start()), BATCH_STEPS, 1, 0)[0]
    return vector @ product(vector)


@functools.cache
def batch_start() -> np.ndarray:
    """The start vector of the peers' runs on small problems."""
    return np.random.default_rng(0).standard_normal(148)


def arpack_lowest(problem: ufm.Problem, point: ufm.Params) -> float:
    """By SciPy's `eigsh` on curvlinops' Hessian of the fit, plus the decay."""
    torch, curvlinops = peer("torch"), peer("curvlinops")

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W, self.H, self.b = (
                torch.nn.Parameter(torch.tensor(np.asarray(leaf)))
                for leaf in (point.W, point.H, point.b)
            )

        def forward(self, inputs: Any) -> Any:
            del inputs
            return self.H @ self.W.T + self.b

    model, labels = Model(), torch.tensor(problem.labels).long()
    fit = curvlinops.HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(torch.zeros(len(labels), 1), labels)],
        check_deterministic=False,
        num_data=len(labels),
    ).to_scipy(np.float64)
    decays = (problem.lambda_w, problem.lambda_h, problem.lambda_b)
    decay = np.concatenate(
        [
            np.full(leaf.numel(), float(d))
            for leaf, d in zip(model.parameters(), decays, strict=True)
        ]
    )
    whole = LinearOperator(fit.shape, matvec=lambda v: fit @ v + decay * v, dtype=np.float64)
    value = eigsh(
        whole, 1, which="SA", ncv=BATCH_STEPS, tol=1e-3, v0=batch_start(), return_eigenvectors=False
    )
    return float(value[0])
