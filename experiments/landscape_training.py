r"""Does gradient descent from random starts meet saddles, and how long does it stay?

Gradient descent and heavy ball run on whole unconstrained feature models from random starts of
many sizes, with equal classes and with unequal ones. A *stay* is a stretch in which the gradient
norm is below a third of the lower of the two peaks around it. At its deepest step the point is
polished by Newton to the critical point nearby, which is certified; it counts as a saddle met if
it is a strict saddle near the path.

At a saddle of rank r let :math:`\sigma` be the largest singular value of the loss gradient G, and
a any direction of feature space in which W is zero. By the escape law (`ncjax.ufm.certificate`),
for equal decays :math:`\lambda`, the part
:math:`\Pi_u (G^\top H / \sigma - W) a`, with :math:`\Pi_u` onto the top right singular space, is an
exact eigendirection with eigenvalue :math:`-s = \lambda - \sigma`. So near the saddle this *escape
part* grows by :math:`1 + \eta s` a step of gradient descent, and by the larger root of
:math:`z^2 - (1 + \beta + \eta s) z + \beta` with momentum :math:`\beta`. The stay ends when it
alone makes up the gradient: from its size on entry this predicts how long the stay lasts.

    python -m experiments.landscape_training --run runs/landscape_training

Expected: starts of size 1 meet no saddle; small ones meet the origin, with equal classes no other,
with unequal ones under MSE saddles of rank 1, 2, .. in turn (under the other losses the stages
overlap, and few stays are deep). Growth agrees with the exact escape eigenvalue to 2 %, the better
the nearer the path comes, and the length of a stay with its prediction to 1 % in the median. Every
run ends at a certified global minimiser (focal: at a minimum, which nothing certifies as global).
2 minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy.ndimage
import scipy.signal
import tyro
from matplotlib.figure import Figure

from experiments.tables import kept
from ncjax import parallel, progress, runs, ufm
from ncjax.curvature import Verdict
from ncjax.plots import COLORS, LOSS_NAMES, MARKERS, STYLE, save
from ncjax.ufm.bounds import loss_gradient, spectrum
from ncjax.ufm.problem import norm

EVIDENCE = ("converged", "gradient", "objective", "rank", "escape", "verdict", "negative")
_STRIDE = 20
DEPTH = 3.0
"""How many times below the peaks around it the gradient norm lies in a stay."""
NEAR = 0.1
"""A saddle is met if the path comes so near to it, relative to the norm of the minimiser."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        losses: names of losses, with default hyperparameters.
        classes: the kinds of class sizes, by name.
        feature_dim: d.
        decay: all three.
        scales: of the starts (`ufm.init`): typical norm of a row of W or H.
        starts: random ones for each scale.
        steps: of each run.
        step: of gradient descent, over 1/L; L is the largest eigenvalue at origin and minimiser.
        momentum: of heavy ball.
        momentum_step: of heavy ball, over 1/L.
        seed: of the starts.
    """

    losses: tuple[str, ...] = tuple(LOSS_NAMES)
    classes: dict[str, tuple[int, ...]] = dataclasses.field(
        default_factory=lambda: {"equal": (5,) * 6, "unequal": (16, 8, 4, 2, 1, 1)}
    )
    feature_dim: int = 8
    decay: float = 2e-3
    scales: tuple[float, ...] = (1e-9, 1e-6, 1e-3, 1e-1, 1.0)
    starts: int = 4
    steps: int = 16000
    step: float = 0.5
    momentum: float = 0.9
    momentum_step: float = 0.1
    seed: int = 0


PRESETS = {
    "smoke": Config(
        losses=("mse",),
        classes={"unequal": (8, 4, 1)},
        feature_dim=4,
        scales=(1e-6, 1.0),
        starts=2,
        steps=3000,
    ),
    "cpu": Config(),
    "accelerator": Config(
        scales=(1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 1e-1, 1.0), starts=16, steps=30000
    ),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_training"),
) -> None:
    """Run, find the stays, and write tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder; a run that was killed goes on, and a finished one draws its figures again.
    """
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    config = PRESETS[preset]
    runs.open_run(run, config)
    parts = list(itertools.product(config.losses, config.classes))
    rows = []
    with jax.enable_x64(True):
        for loss, kind in progress.bar(parts, desc="training", unit=" problems"):
            work = functools.partial(trained, config, loss, kind)
            rows.append(kept(run / "parts" / f"{loss}-{kind}.csv", work))
    table = pd.concat(rows, ignore_index=True)
    paths, stays, curves = (table[table["what"] == what] for what in ("run", "stay", "curve"))
    stays = stays.astype({"met": bool, "rank": int})
    for name, short in {"runs": of_runs(paths, stays), "saddles": of_saddles(stays)}.items():
        runs.write_atomically(run / f"{name}.csv", short.to_csv(index=False))
        print(f"\n{name}\n{short.to_string(index=False, float_format=lambda x: f'{x:.3g}')}")
    with mpl.rc_context(STYLE):
        (run / "figures").mkdir(exist_ok=True)
        draw_paths(curves, stays, run / "figures" / "paths.png")
        draw_growth(stays, run / "figures" / "growth.png")
    print(f"written: {run}")


# The runs of one problem


def trained(config: Config, loss: str, kind: str) -> pd.DataFrame:
    """Rows of three kinds in `what`: every run, every stay, and curves of the first starts."""
    decay, sizes = config.decay, config.classes[kind]
    problem = ufm.Problem(len(sizes), config.feature_dim, sizes, loss, decay, decay, decay)
    best, largest = extremes(problem)
    items = starts(config, largest)
    found = parallel.sweep(_path(problem, config.steps), items, key=jax.random.key(config.seed))
    names = {"loss": loss, "classes": kind}
    labels = pd.DataFrame({name: items[name] for name in ("scale", "momentum", "step")})
    ends = polished(problem, found.pop("end"), "minimizer")
    rows = labels.assign(what="run", run=labels.index, **names)
    rows["excess"] = found["objective"][:, -1] - best["objective"]
    rows["finished_excess"] = ends["objective"] - best["objective"]
    # The ends were certified with sizes traced, of which equal ones are not known to be equal.
    verdicts = parallel.sweep(lambda end: ufm.certify(end, problem).verdict, ends["params"])
    rows["verdict"] = [Verdict(int(code)).label for code in verdicts]
    rows["negative"] = ends["negative"]
    stays = pd.DataFrame(
        [
            {"run": run} | stay
            for run, (gradient, momentum) in enumerate(
                zip(found["gradient"], items["momentum"], strict=True)
            )
            for stay in stays_of(gradient, momentum)
        ]
    )
    stays = followed(problem, items, found["states"], stays, best)
    stays = stays.join(labels, on="run").assign(what="stay", **names)
    return pd.concat([rows, stays, _curves(config, found, labels, best["objective"], names)])


def starts(config: Config, largest: float) -> dict[str, np.ndarray]:
    """The settings of every run: all scales, starts and both optimisers."""
    kinds = [(0.0, config.step / largest), (config.momentum, config.momentum_step / largest)]
    product = list(itertools.product(kinds, config.scales, range(config.starts)))
    return {
        "momentum": np.array([momentum for (momentum, _), _, _ in product]),
        "step": np.array([step for (_, step), _, _ in product]),
        "scale": np.array([scale for _, scale, _ in product]),
    }


def _path(problem: ufm.Problem, steps: int) -> Callable[[jax.Array, dict], dict[str, Any]]:
    """One run: what is seen at every step, and the state before every `_STRIDE`-th."""

    def run(key: jax.Array, item: dict[str, jax.Array]) -> dict[str, Any]:
        start = ufm.init(key, problem, item["scale"])
        state = (start, jax.tree.map(jnp.zeros_like, start))

        def stretch(state: tuple, _: None) -> tuple[tuple, tuple]:
            after, seen = descend(state, problem, item, _STRIDE, of_path)
            return after, (state, seen)

        end, (states, seen) = jax.lax.scan(stretch, state, None, length=steps // _STRIDE)
        return {name: x.reshape(-1) for name, x in seen.items()} | {"states": states, "end": end[0]}

    def of_path(params: ufm.Params, _: ufm.Params, slope: ufm.Params) -> dict[str, jax.Array]:
        square = params.W @ params.W.T
        return {
            "gradient": norm(slope, problem),
            "objective": ufm.objective(params, problem),
            "effective_rank": jnp.trace(square) ** 2 / jnp.square(square).sum(),
        }

    return run


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


# Stays, and the saddles they are at


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
    run, first = stays["run"].to_numpy(), stays["entry"].to_numpy() // _STRIDE
    deepest = jax.tree.map(lambda x: x[run, stays["deepest"].to_numpy() // _STRIDE], states[0])
    found = polished(problem, deepest, "critical_point")
    step, momentum = items["step"][run], items["momentum"][run]
    uphill = np.maximum(found["escape"], 1e-12)  # not positive where the point is no saddle
    exact = growth(step, uphill, momentum)
    length = int((stays["exit"] - first * _STRIDE).max()) + 1
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
            int(step - first[place] * _STRIDE)
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


def _curves(
    config: Config,
    found: dict[str, np.ndarray],
    labels: pd.DataFrame,
    least: float,
    names: dict[str, str],
) -> pd.DataFrame:
    """The first start of each scale, every so many steps."""
    steps = np.unique(np.geomspace(1, config.steps, 600).astype(int)) - 1
    rows = []
    for run in range(0, len(labels), config.starts):
        columns = {name: found[name][run, steps] for name in ("gradient", "effective_rank")}
        columns |= {"after": steps, "excess": found["objective"][run, steps] - least}
        columns |= labels.loc[run].to_dict()
        rows.append(pd.DataFrame(columns).assign(what="curve", run=run, **names))
    return pd.concat(rows)


# Tables


def of_runs(paths: pd.DataFrame, stays: pd.DataFrame) -> pd.DataFrame:
    """For each problem, optimiser and scale: which saddles were met, and where runs ended."""
    met = stays[stays["met"]]
    keys = ["classes", "loss", "momentum", "scale"]
    ranks = range(int(met["rank"].max()) + 1)
    rows = []
    for key, group in paths.groupby(keys, sort=False):
        same = (met[keys] == list(key)).all(axis=1)
        row = dict(zip(keys, key, strict=True)) | {"runs": len(group)}
        for rank in ranks:
            row[f"rank {rank}"] = met[same & (met["rank"] == rank)]["run"].nunique() / len(group)
        row |= {
            "other stays": int(((stays[keys] == list(key)).all(axis=1) & ~stays["met"]).sum()),
            "end": ", ".join(group["verdict"].unique()),
            "largest index": group["negative"].max(),
            "f - f*": group["finished_excess"].abs().max(),
            "f - f* before Newton": group["excess"].max(),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def of_saddles(stays: pd.DataFrame) -> pd.DataFrame:
    """For each optimiser, problem and rank: growth and dwell, exact and measured."""
    met = stays[stays["met"]].copy()
    rate, exact = np.log(met["growth"]), np.log(met["exact_growth"])
    met["error"] = (rate / exact - 1).abs()
    met["dwell_error"] = (met["exact_dwell"] / met["dwell"] - 1).abs()
    keys = ["classes", "loss", "momentum", "rank"]

    def some(values: pd.Series) -> str:
        return ", ".join(f"{value:g}" for value in sorted(values.unique()))

    return (
        met.groupby(keys, sort=False)
        .agg(
            stays=("error", "size"),
            index=("negative", some),
            escape=("escape", "median"),
            closest=("closest", "median"),
            dwell=("dwell", "median"),
            exact_dwell=("exact_dwell", "median"),
            dwell_error=("dwell_error", "median"),
            growth_error=("error", "median"),
            largest_growth_error=("error", "max"),
        )
        .reset_index()
        .sort_values(keys)
    )


# Figures


def draw_paths(curves: pd.DataFrame, stays: pd.DataFrame, path: Path) -> None:
    """Excess objective, gradient norm and effective rank of gradient descent, unequal classes."""
    kind = curves["classes"].iloc[-1]
    curves = curves[(curves["momentum"] == 0) & (curves["classes"] == kind)]
    met = stays[stays["met"] & (stays["classes"] == kind) & (stays["momentum"] == 0)]
    losses = list(dict.fromkeys(curves["loss"]))
    scales = sorted(curves["scale"].unique())
    scales = [scales[0], *scales[2::2]] if len(scales) > 3 else scales
    figure = Figure(figsize=(2.0 * len(losses) + 1.0, 6.2), layout="constrained")
    heights = {"height_ratios": (1.6, 1, 1)}
    axes = figure.subplots(
        3, len(losses), sharex=True, sharey="row", squeeze=False, gridspec_kw=heights
    )
    for column, loss in zip(axes.T, losses, strict=True):
        for number, scale in enumerate(scales):
            line = curves[(curves["loss"] == loss) & (curves["scale"] == scale)]
            for ax, name in zip(column, ("excess", "gradient", "effective_rank"), strict=True):
                style = {"color": COLORS[number], "linewidth": 1.2, "label": f"{scale:g}"}
                ax.plot(line["after"] + 1, line[name], **style)
        levels = met[met["loss"] == loss].groupby("rank")["excess"].median()
        for rank, level in levels.items():
            column[0].axhline(level, color="0.6", linestyle="--", linewidth=0.7, zorder=0)
            column[0].annotate(
                f"{int(rank)}",
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(2, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
            )
        column[0].set(xscale="log", yscale="log", title=LOSS_NAMES[loss])
        column[1].set_yscale("log")
        column[2].set_xlabel("step")
    axes[0, 0].set(ylabel=r"objective excess $f - f^\star$", ylim=(1e-4, None))
    axes[1, 0].set(ylabel="gradient norm", ylim=(1e-7, None))
    axes[2, 0].set_ylabel("effective rank of W")
    handles, names = axes[0, 0].get_legend_handles_labels()
    title = "typical norm of a row at the start; dashed: certified saddles, with their rank"
    place = {"loc": "outside lower center", "ncols": len(names), "title_fontsize": 9}
    figure.legend(handles, names, title=title, **place)
    save(figure, path)


def draw_growth(stays: pd.DataFrame, path: Path) -> None:
    """Growth and length of every stay, measured against exact."""
    met = stays[stays["met"]]
    rate, exact = np.log(met["growth"]), np.log(met["exact_growth"])
    figure = Figure(figsize=(9.0, 3.3), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = [
        (exact, rate, "exact growth a step (log)", "measured growth a step (log)"),
        (met["closest"], (rate / exact - 1).abs(), "closest distance / norm of minimiser", None),
        (met["exact_dwell"], met["dwell"], "predicted steps near the saddle", "measured steps"),
    ]
    for ax, (x, y, across, up) in zip(axes, panels, strict=True):
        for rank in sorted(met["rank"].unique()):
            for momentum in sorted(met["momentum"].unique()):
                chosen = (met["rank"] == rank) & (met["momentum"] == momentum)
                color, marker = COLORS[int(rank) % 7], MARKERS[int(rank) % 7]
                face = color if momentum == 0 else "none"
                label = f"rank {int(rank)}" if momentum == 0 else None
                style = {"color": color, "marker": marker, "facecolor": face, "label": label}
                ax.scatter(x[chosen], y[chosen], s=18, linewidths=0.8, **style)
        ax.set(xscale="log", yscale="log", xlabel=across)
        if up:
            low, high = ax.get_xlim()
            ax.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
            ax.set_ylabel(up)
    axes[1].set_ylabel("relative error of the growth")
    handles, names = axes[0].get_legend_handles_labels()
    title = "saddle of rank; filled: gradient descent, open: momentum"
    place = {"loc": "outside lower center", "ncols": len(names), "title_fontsize": 9}
    figure.legend(handles, names, title=title, **place)
    save(figure, path)


if __name__ == "__main__":
    tyro.cli(main)
