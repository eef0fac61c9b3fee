"""Where a path of gradient descent stays, at which critical point, and for how long.

The definitions, and what is exact of growth and length, are those of
`experiments.landscape_training`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.ndimage
import scipy.signal

from ncjax import parallel, ufm
from ncjax.curvature import Verdict
from ncjax.ufm.bounds import loss_gradient, spectrum
from ncjax.ufm.problem import norm

EVIDENCE = ("converged", "gradient", "objective", "rank", "escape", "verdict", "negative")
STRIDE = 20
"""Steps between the states that are kept of a path."""
DEPTH = 3.0
"""How many times below the peaks around it the gradient norm lies in a stay."""
NEAR = 0.1
"""A saddle is met if the path comes so near to it, relative to the norm of the minimiser."""


def descend(
    state: tuple[ufm.Params, ufm.Params],
    problem: ufm.Problem,
    item: dict[str, jax.Array],
    steps: int,
    probe: Callable[[ufm.Params, ufm.Params, ufm.Params], dict[str, jax.Array]],
) -> tuple[tuple[ufm.Params, ufm.Params], dict[str, jax.Array]]:
    """Heavy ball; `probe` sees each point, the step that led there, and the gradient."""

    def move(state: tuple, _: None) -> tuple[tuple, dict[str, jax.Array]]:
        params, velocity = state
        slope = ufm.gradient(params, problem)
        seen = probe(params, velocity, slope)
        velocity = jax.tree.map(
            lambda v, g: item["momentum"] * v - item["step"] * g, velocity, slope
        )
        return (jax.tree.map(jnp.add, params, velocity), velocity), seen

    return jax.lax.scan(move, state, None, length=steps)


def stays_of(gradient: np.ndarray, momentum: float) -> list[dict[str, Any]]:
    """Where the gradient norm lies deep below the peaks on both sides; the start may be inside.

    Heavy ball makes it oscillate: stays are found in its maximum over four times the momentum's
    memory.
    """
    memory = round(4 / (1 - momentum)) if momentum else 1
    size = np.maximum(scipy.ndimage.maximum_filter1d(gradient, memory), 1e-13)
    padded = np.concatenate([[99.0], -np.log10(size)])
    padded[0] = padded.min() - 99
    places, found = scipy.signal.find_peaks(padded, prominence=np.log10(DEPTH), plateau_size=1)
    stays = []
    for place, prominence in zip(places - 1, found["prominences"], strict=True):
        limit = size[place] * 10**prominence / DEPTH
        above = np.flatnonzero(gradient > limit)
        before, after = above[above < place], above[above > place]
        halfway = np.flatnonzero(gradient > np.sqrt(size[place] * limit))
        stays.append(
            {
                "entry": before[-1] + 1 if len(before) else 0,
                "deepest": place,
                "departure": halfway[halfway > place][0],
                "exit": after[0],
                "limit": limit,
            }
        )
    return stays


def polished(
    problem: ufm.Problem, points: ufm.Params, aim: Literal["minimizer", "critical_point"]
) -> dict[str, np.ndarray]:
    """Newton from each point, made compact, and what is certain of where it ends.

    One program serves all class sizes, which are traced.
    """
    sizes = np.broadcast_to(problem.class_sizes, (len(points.W), problem.num_classes))
    if not problem.is_compact(points.H.shape[1]):
        member = np.eye(problem.num_classes)[:, problem.labels] / sizes[0][:, None]
        points = ufm.Params(points.W, np.einsum("kn,bnd->bkd", member, points.H), points.b)
    decay = float(problem.lambda_w)
    finish = _finish(problem.loss, problem.num_classes, problem.feature_dim, decay, aim)
    return parallel.sweep(finish, {"point": points, "sizes": sizes}, chunk=16)


@functools.lru_cache
def _finish(loss: str, K: int, d: int, decay: float, aim: str) -> Callable[[dict], dict[str, Any]]:
    def finish(item: dict[str, Any]) -> dict[str, Any]:
        problem = ufm.Problem(K, d, item["sizes"], loss, decay, decay, decay)
        found = ufm.solve(item["point"], problem, aim=aim, max_steps=1000)
        evidence = ufm.certify(found.params, problem)
        return {
            "params": found.params,
            "converged": found.converged,
            "gradient": evidence.gradient_norm / problem.force,
            "objective": evidence.objective,
            "rank": evidence.rank,
            "escape": -evidence.escape_value,
            "verdict": evidence.verdict,
            "negative": ufm.inertia(found.params, problem).negative,
            "largest": ufm.eigenvalue(found.params, problem, -1),
        }

    return finish


def extremes(problem: ufm.Problem) -> tuple[dict[str, Any], float]:
    """The best minimum that Newton finds, and the largest eigenvalue there and at the origin."""
    keys = jax.random.split(jax.random.key(0), 8)
    shape = jax.vmap(lambda key: ufm.init(key, problem))(keys)
    found = polished(problem, jax.device_get(shape), "minimizer")
    best = jax.tree.map(lambda x: x[np.argmin(found["objective"])], found)
    zero = jax.tree.map(lambda x: np.zeros_like(x[:1]), found["params"])
    origin = polished(problem, zero, "critical_point")
    return best, float(max(best["largest"], origin["largest"][0]))


def followed(
    problem: ufm.Problem,
    items: dict[str, np.ndarray],
    states: Any,
    stays: pd.DataFrame,
    best: dict[str, Any],
) -> pd.DataFrame:
    """The critical point of each stay, and growth and length of the stay, exact and measured."""
    run, first = stays["run"].to_numpy(), stays["entry"].to_numpy() // STRIDE
    deepest = jax.tree.map(lambda x: x[run, stays["deepest"].to_numpy() // STRIDE], states[0])
    found = polished(problem, deepest, "critical_point")
    step, momentum = items["step"][run], items["momentum"][run]
    uphill = np.maximum(found["escape"], 1e-12)  # not positive where the point is no saddle
    exact = growth(step, uphill, momentum)
    length = int((stays["exit"] - first * STRIDE).max()) + 1
    here = {
        "state": jax.tree.map(lambda x: x[run, first], states),
        "saddle": found["params"],
        "momentum": momentum,
        "step": step,
        "growth": exact,
    }
    seen = parallel.sweep(_departure(problem, -(-length // 500) * 500), here)
    size = float(norm(ufm.expand(best["params"], problem), problem))
    table = stays.assign(**{name: found[name] for name in EVIDENCE})
    table["excess"] = table["objective"] - best["objective"]
    table["exact_growth"] = exact
    rows = []
    for place, stay in enumerate(table.itertuples()):
        part, distance = seen["part"][place], seen["distance"][place]
        entry, deep, left, out = (
            int(step - first[place] * STRIDE)
            for step in (stay.entry, stay.deepest, stay.departure, stay.exit)
        )
        ahead = np.log(stay.limit / (uphill[place] * part[entry]))
        rows.append(
            {
                "closest": distance[entry:out].min() / size,
                "growth": (part[left] / part[deep]) ** (1 / (left - deep)),
                "exact_dwell": ahead / np.log(stay.exact_growth),
            }
        )
    table = table.join(pd.DataFrame(rows, index=table.index))
    table["dwell"] = table["exit"] - table["entry"]
    saddle = table["converged"] & (table["verdict"] == int(Verdict.STRICT_SADDLE))
    return table.assign(met=saddle & (table["closest"] < NEAR))


def growth(step: np.ndarray, escape: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """The factor of one step along an eigenvalue of minus `escape` (module docstring)."""
    half = (1 + momentum + step * escape) / 2
    return half + np.sqrt(half**2 - momentum)


def _departure(problem: ufm.Problem, length: int) -> Callable[[dict], dict[str, jax.Array]]:
    """The path from a state on: its distance from a saddle, and the size of its escape part."""

    def departure(item: dict[str, Any]) -> dict[str, jax.Array]:
        saddle = ufm.expand(item["saddle"], problem)
        G = loss_gradient(saddle, problem)
        sigma, right = spectrum(G, problem)
        top = jnp.where((sigma > (1 - 1e-6) * sigma[0])[None, :], right, 0)
        values, vectors = jnp.linalg.eigh(saddle.W.T @ saddle.W)
        null = jnp.where((values < 1e-8 * jnp.maximum(values[-1], 1))[None, :], vectors, 0)

        def escape_part(params: ufm.Params) -> jax.Array:
            return top.T @ (G.T @ params.H / sigma[0] - params.W) @ null / math.sqrt(2)

        # Of a path A z^t + B f^t, f = momentum / z, the growing part A z^t.
        growing = item["growth"]
        fading = item["momentum"] / growing

        def probe(params: ufm.Params, last: ufm.Params, _: ufm.Params) -> dict[str, jax.Array]:
            part = (1 - fading) * escape_part(params) + fading * escape_part(last)
            size = jnp.linalg.norm(part) * growing / (growing - fading)
            away = jax.tree.map(jnp.subtract, params, saddle)
            return {"part": size, "distance": norm(away, problem)}

        return descend(item["state"], problem, item, length, probe)[1]

    return departure
