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
1.5 minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro

from experiments.drawing.training import draw_growth, draw_paths
from experiments.stays import STRIDE, descend, extremes, followed, polished, stays_of
from experiments.tables import kept
from ncjax import parallel, progress, runs, ufm
from ncjax.curvature import Verdict
from ncjax.plots import LOSS_NAMES, STYLE
from ncjax.ufm.problem import norm


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
    """One run: what is seen at every step, and the state before every `STRIDE`-th."""

    def run(key: jax.Array, item: dict[str, jax.Array]) -> dict[str, Any]:
        start = ufm.init(key, problem, item["scale"])
        state = (start, jax.tree.map(jnp.zeros_like, start))

        def stretch(state: tuple, _: None) -> tuple[tuple, tuple]:
            after, seen = descend(state, problem, item, STRIDE, of_path)
            return after, (state, seen)

        end, (states, seen) = jax.lax.scan(stretch, state, None, length=steps // STRIDE)
        return {name: x.reshape(-1) for name, x in seen.items()} | {"states": states, "end": end[0]}

    def of_path(params: ufm.Params, _: ufm.Params, slope: ufm.Params) -> dict[str, jax.Array]:
        square = params.W @ params.W.T
        return {
            "gradient": norm(slope, problem),
            "objective": ufm.objective(params, problem),
            "effective_rank": jnp.trace(square) ** 2 / jnp.square(square).sum(),
        }

    return run


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


if __name__ == "__main__":
    tyro.cli(main)
