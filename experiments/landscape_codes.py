r"""Fewer feature dimensions than a simplex ETF needs: bound, minima and geometry for d < K-1.

The model of rank d < K-1 is no longer convex, so what can be certified is this, for cross entropy
with equal classes and lambda_w = lambda_h: the convex model's minimum, reached at d = K-1, bounds
the objective from below; and a solution whose Hessian has no negative eigenvalue and no more zeros
than rotations of the features is a local minimum, strict up to them (exact counts, `ufm.inertia`).

As the decay vanishes, f / (tau log(1 / tau)) tends to the price of a margin: the least nuclear norm
of logits of rank d whose true entries lead by 1. A code C as the features, with logits C C' less
the common part of the rows of W, which softmax ignores, costs

.. math:: \frac{||C C' P||_*}{1 - \max_{i \ne j} c_i' c_j},

K - 1 for the simplex ETF, K / (1 - cos(2 pi / K)) for the polygon, and for the orthoplex
(d+2 <= K <= 2d) K - 1 + sqrt(2 (K-d) / K) (derived here). The claims tested: the best solutions pay
the price of the best code, and their features approach it (one-vs-rest criterion of 2310.05351; for
d+2 <= K <= 2d see 2603.20587).

    python -m experiments.landscape_codes --run runs/landscape_codes

Expected (preset cpu): all 1,120 solutions are local minima by exact counts. The prices of the known
codes agree to 1 % (to 1e-4 for polygon, simplex and whole orthoplex). Where the orthoplex is not
whole, K < 2d, two families compete: at large decay orthogonal simplices of most unequal sizes (2+4
for K = 6, d = 4), at small decay the orthoplex, whose cosine of 0 is approached as slowly as
1 / log(1 / lambda). 75 s on two cores.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.sparse.csgraph import connected_components

from experiments.tables import kept, markdown
from ncjax import checks, frames, parallel, progress, runs, ufm
from ncjax.curvature import Verdict
from ncjax.plots import COLORS, MARKERS, STYLE, save

SAME = 1e-7
"""Objectives nearer to each other than this, relatively, belong to one minimum."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is swept.

    Attributes:
        num_classes: values of K; d goes from 2 to K-1.
        samples: n of each class.
        decays: lambda_w = lambda_h, descending.
        bias_decay: lambda_b.
        starts: random starts of each problem.
        chunk: problems in one compiled call.
    """

    num_classes: tuple[int, ...] = (6, 8)
    samples: int = 10
    decays: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    bias_decay: float = 1e-2
    starts: int = 16
    chunk: int = 8


PRESETS = {
    "smoke": Config(num_classes=(4,), decays=(1e-3, 1e-5, 1e-6), starts=4),
    "cpu": Config(),
    "accelerator": Config(
        num_classes=(5, 6, 7, 8, 10, 12),
        decays=(*Config.decays, 1e-9, 1e-10),
        starts=64,
        chunk=576,
    ),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_codes"),
) -> None:
    """Solve from many starts, count, and write tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder; a run that was killed goes on, and a finished one draws its figures again.
    """
    parallel.use_all_cores()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    config = PRESETS[preset]
    runs.open_run(run, config)
    with jax.enable_x64(True):
        parts = list(pieces(config))
        tables = [
            kept(run / "parts" / f"{name}.csv", work)
            for name, work in progress.bar(parts, desc="codes", unit=" sizes")
        ]
        points = pd.concat(tables, ignore_index=True)
        summaries = {"codes": summarize(points), "minima": minima(points)}
    runs.write_atomically(run / "points.csv", points.to_csv(index=False))
    for name, table in summaries.items():
        runs.write_atomically(run / f"{name}.csv", table.to_csv(index=False))
        print(f"\n{name}\n{table.to_string(index=False, float_format=lambda x: f'{x:.4g}')}")
    text = "\n\n".join(markdown(table.set_index("K")) for table in summaries.values())
    runs.write_atomically(run / "summary.md", text + "\n")
    (run / "figures").mkdir(exist_ok=True)
    with jax.enable_x64(True):
        draw(points, run / "figures" / "codes.png")
    print(f"written: {run}")


# The solutions


def pieces(config: Config) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    """The name and the work of every pair of sizes."""
    for K in config.num_classes:
        for d in range(2, K):
            yield f"K{K}-d{d}", functools.partial(solved, config, K, d)


def solved(config: Config, K: int, d: int) -> pd.DataFrame:
    """Solutions from every start at every decay, one row each."""
    decays = np.repeat(config.decays, config.starts)
    found = parallel.sweep(
        _point(K, d, config.samples, config.bias_decay),
        decays,
        key=jax.random.key(0),
        chunk=config.chunk,
        together=parallel.together_for_loops(),
    )
    features = found.pop("features")
    table = pd.DataFrame({"K": K, "d": d, "decay": decays} | found)
    table["verdict"] = [Verdict(int(code)).label for code in table["verdict"]]
    # A class may be left at the origin, to the bias alone; then there is no direction to speak of.
    smallest = np.linalg.norm(features, axis=2).min(1) / np.linalg.norm(features, axis=(1, 2))
    for name, measure in MEASURES.items():
        values = [float(measure(rows)) for rows in features]
        table[name] = np.where(smallest > 1e-6, values, np.nan)
    return table.assign(blocks=[blocks(rows) for rows in features])


def blocks(features: np.ndarray) -> str:
    """Sizes of the groups of classes that repel each other, as 2+4: orthogonal simplices."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-300)
    group = connected_components(unit @ unit.T < -0.02)[1]
    return "+".join(map(str, sorted(np.bincount(group))))


MEASURES: dict[str, Callable[[np.ndarray], float | jax.Array]] = {
    "largest_cosine": frames.largest_cosine,
    "one_vs_rest": frames.one_vs_rest_distance,
}


@functools.lru_cache
def _point(K: int, d: int, samples: int, bias_decay: float) -> Callable[..., dict[str, jax.Array]]:
    def point(key: jax.Array, decay: jax.Array) -> dict[str, jax.Array]:
        problem = ufm.Problem(K, d, samples, "cross_entropy", decay, decay, bias_decay)
        found = ufm.solve(ufm.init(key, problem, compact=True), problem, max_steps=400)
        certificate, counts = ufm.certify(found.params, problem), ufm.inertia(found.params, problem)
        rotations = certificate.rank * d - certificate.rank * (certificate.rank + 1) // 2
        is_minimum = found.converged & (counts.negative == 0) & (counts.zero == rotations)
        convex = ufm.minimizer(dataclasses.replace(problem, feature_dim=K - 1), compact=True)
        return {
            "objective": certificate.objective,
            "tau": problem.tau,
            "convex": jnp.where(convex.converged, convex.value, jnp.nan),
            "verdict": jnp.where(
                (certificate.verdict == Verdict.INCONCLUSIVE) & is_minimum,
                jnp.int32(Verdict.LOCAL_MINIMUM),
                certificate.verdict,
            ),
            "negative": counts.negative,
            "steps": found.steps,
            "features": found.params.H,
        }

    return point


# What the codes foretell


def code_of(K: int, d: int) -> jax.Array | None:
    """The best code, where it is known."""
    try:
        return frames.spherical_code(K, d)
    except checks.InputError:
        return None


def price(code: jax.Array | None) -> float:
    """Nuclear norm of the logits for a margin of one, as in the module docstring."""
    if code is None:
        return np.nan
    logits = code @ code.T @ frames.centering(len(code))
    return float(jnp.linalg.norm(logits, "nuc") / (1 - frames.largest_cosine(code)))


# Tables


def best(points: pd.DataFrame) -> pd.DataFrame:
    """The lowest solution of every problem, ascending in decay."""
    return points.loc[points.groupby(["K", "d", "decay"])["objective"].idxmin().to_numpy()]


def summarize(points: pd.DataFrame) -> pd.DataFrame:
    """One row for every pair of sizes: certificates, bound, price and geometry at the least decay.

    The price is measured from the best objectives at the two least decays, as the growth of
    f / tau with log(1 / tau).
    """
    lowest = best(points)
    rows = []
    for (K, d), table in points.groupby(["K", "d"], sort=False):
        least, next_least = lowest.query("K == @K and d == @d").to_dict("records")[:2]
        growth = least["objective"] / least["tau"] - next_least["objective"] / next_least["tau"]
        code = code_of(K, d)
        certified = table["verdict"].isin(["local_minimum", "global_minimizer"])
        row = {
            "K": K,
            "d": d,
            "solutions": len(table),
            "minima by exact count": int(certified.sum()),
            "best / convex - 1": least["objective"] / least["convex"] - 1,
            "limit": price(code) / (K - 1) - 1,
            "price": growth / np.log(next_least["tau"] / least["tau"]),
            "price of the code": price(code),
        }
        for name, measure in MEASURES.items():
            label = name.replace("_", " ")
            row[label] = least[name]
            row[f"{label} of the code"] = np.nan if code is None else float(measure(code))
        rows.append(row)
    return pd.DataFrame(rows)


def minima(points: pd.DataFrame) -> pd.DataFrame:
    """The different minima of those problems that have more than one."""
    rows = []
    for (K, d, decay), table in points.groupby(["K", "d", "decay"], sort=False):
        table = table.sort_values("objective")
        new = table["objective"].diff().fillna(np.inf) > SAME * table["objective"]
        groups = [group for _, group in table.groupby(new.cumsum())]
        for number, group in enumerate(groups if len(groups) > 1 else []):
            first = group.iloc[0]
            rows.append(
                {
                    "K": K,
                    "d": d,
                    "decay": decay,
                    "minimum": number + 1,
                    "excess over the best": first["objective"] / table["objective"].iloc[0] - 1,
                    "starts": len(group),
                    "verdict": first["verdict"],
                    "blocks": first["blocks"],
                    "largest cosine": first["largest_cosine"],
                    "one-vs-rest distance": first["one_vs_rest"],
                }
            )
    columns = ["K", "d", "decay", "minimum", "excess over the best", "starts", "verdict", "blocks"]
    return pd.DataFrame(rows, columns=[*columns, "largest cosine", "one-vs-rest distance"])


# The figure


def draw(points: pd.DataFrame, path: Path) -> None:
    """One row a K: excess over the bound against d, and the geometry against the decay."""
    lowest = best(points)
    classes = list(dict.fromkeys(points["K"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 2.5 * len(classes) + 0.3), layout="constrained")
        axes = figure.subplots(len(classes), 3, squeeze=False)
        for (left, middle, right), K in zip(axes, classes, strict=True):
            table = lowest[lowest["K"] == K]
            draw_excess(left, table, K)
            for number, (d, at) in enumerate(table.groupby("d")):
                draw_geometry(middle, right, at, code_of(K, int(d)), number)
            for ax in (middle, right):
                ax.set_xscale("log")
                ax.invert_xaxis()
                ax.set_xlabel(r"decay $\lambda_W = \lambda_H$")
            middle.set_ylabel("largest cosine of features")
            right.set_ylabel("one-vs-rest distance:\nshortfall of the code's")
            handles, names = middle.get_legend_handles_labels()
            right.legend(handles, names, title="d", loc="center left", bbox_to_anchor=(1.0, 0.5))
        save(figure, path)


def draw_excess(ax: Axes, table: pd.DataFrame, K: int) -> None:
    """Best found over the convex bound, for three decays and in the limit."""
    decays = sorted(table["decay"].unique(), reverse=True)
    for number, decay in enumerate([decays[1], decays[len(decays) // 2], decays[-1]]):
        at = table[table["decay"] == decay]
        ax.plot(
            at["d"],
            at["objective"] / at["convex"] - 1,
            color=COLORS[number],
            marker=MARKERS[number],
            markersize=4,
            linewidth=1,
            label=rf"$\lambda = 10^{{{np.log10(decay):.0f}}}$",
        )
    dims = np.arange(2, K)
    limits = [price(code_of(K, int(d))) / (K - 1) - 1 for d in dims]
    ax.plot(dims, limits, "k_", markersize=12, label="limit of the code")
    ax.set_title(f"K = {K}", loc="left")
    ax.set_xlabel("feature dimension d")
    ax.set_ylabel("best found / convex bound - 1")
    ax.set_xticks(dims)
    ax.legend()


def draw_geometry(
    middle: Axes, right: Axes, table: pd.DataFrame, code: jax.Array | None, number: int
) -> None:
    """Cosine and one-vs-rest distance of the best features of one d, beside those of the code."""
    color, marker = COLORS[number % 7], MARKERS[number % 7]
    style = {"color": color, "marker": marker, "markersize": 3.5, "linewidth": 1}
    d = table["d"].iloc[0]
    middle.plot(table["decay"], table["largest_cosine"], **style, label=f"{d}")
    if code is not None:
        middle.axhline(float(frames.largest_cosine(code)), color=color, linestyle=":", linewidth=1)
        shortfall = 1 - table["one_vs_rest"] / frames.one_vs_rest_distance(code)
        right.plot(table["decay"], shortfall, **style)


if __name__ == "__main__":
    tyro.cli(main)
