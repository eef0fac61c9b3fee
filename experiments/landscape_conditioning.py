r"""How easy the four landscapes are, by exact numbers: condition number and escape rate.

Nothing is solved or sampled: the Hessian's spectrum at the minimiser of the unconstrained feature
model and its smallest eigenvalue at the origin have closed forms (`ncjax.ufm.conditioning`). They
are compared over weight decay, classes, and the losses' hyperparameters; all three decays are
equal, :math:`\lambda`. The claim under test: rescaling MSE improves its landscape (2203.01238).

Losses differ in scale, so everything compared is free of it:

* the condition number :math:`\kappa = L / m`, largest over smallest nonzero eigenvalue: gradient
  descent with its best step 2 / (L + m) ends at the rate :math:`(\kappa - 1) / (\kappa + 1)`;
* escape steps, 1 / log(1 + s / L): steps of size 1 / L in which small features grow by e, s the
  escape rate at the origin;
* collapse steps, -1 / log(1 - c / L): the same for deviations within classes to shrink by e, c the
  smallest eigenvalue among those that W sees (a measure of NC1 sees no others);
* all three again with the step that is safe at the origin too, where L may be larger ("safe").

And :math:`\lambda` is not free of scale, so losses are compared twice: at equal decay, and at equal
*decay ratio* :math:`\mu / \sigma_0`, with :math:`\sigma_0` the largest singular value of the loss
gradient at the origin. At a ratio of 1 the origin stops being a saddle and everything collapses
to zero; for cross entropy the ratio is :math:`K \tau`.

    python -m experiments.landscape_conditioning --run runs/landscape_conditioning

Expected: the condition number of cross entropy and focal hardly depends on the decay, that of MSE
and label smoothing grows like 1 / decay; the smallest eigenvalue of cross entropy is the decay
times min(1, 2 s / K), s the logit gap; a larger target of MSE makes escape and collapse faster and,
at equal decay ratio, the condition number smaller, at equal decay larger. Rates of gradient descent
agree with the exact ones to 1e-3, mostly to 1e-5. 2.5 minutes on two cores, nearly all compilation.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from experiments.drawing.conditioning import STEPS, draw
from experiments.tables import kept
from ncjax import parallel, progress, runs, ufm
from ncjax.ufm.exact_spectrum import loss_at
from ncjax.ufm.problem import norm

VARIANTS: dict[str, tuple[str, dict[str, float]]] = {
    "cross entropy": ("cross_entropy", {}),
    "label smoothing": ("label_smoothing", {"smoothing": 0.1}),
    "focal": ("focal", {"gamma": 3.0}),
    "MSE": ("mse", {"scale": 1.0, "target": 1.0}),
    "MSE, target 15": ("mse", {"scale": 1.0, "target": 15.0}),
}
PAIRS = ((1, 1), (5, 1), (15, 1), (20, 1), (1, 3), (1, 5), (1, 10), (1, 15))
"""(scale, target) of the authors' code."""
FAMILIES = (
    "unused feature",
    "within class",
    "trivial",
    "standard",
    "symmetric",
    "antisymmetric",
)
SAFE = tuple(f"safe_{name}" for name in STEPS)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is swept.

    Attributes:
        variants: the losses that are compared, of `VARIANTS`.
        num_classes: K wherever it is not swept; d = 2 K throughout.
        samples_per_class: n.
        decays: points of the sweep over decay, 1e-6 to 1e-1.
        classes: values of K.
        side: points of scale and of target, 1/4 to 16.
        hyperparameters: points over gamma of focal, 0 to 8, and over smoothing, 0 to 0.5.
        decay: where losses are compared at equal decay.
        decay_over_classes: the same where K is swept.
        ratio: where they are compared at equal decay ratio.
        check_steps: of gradient descent in the check.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    num_classes: int = 10
    samples_per_class: int = 30
    decays: int = 26
    classes: tuple[int, ...] = (2, 10, 50, 200, 1000)
    side: int = 25
    hyperparameters: int = 17
    decay: float = 1e-3
    decay_over_classes: float = 1e-5
    ratio: float = 0.05
    check_steps: int = 16000


PRESETS = {
    "smoke": Config(
        variants=("cross entropy", "MSE"),
        num_classes=4,
        samples_per_class=5,
        decays=6,
        classes=(),
        side=7,
        hyperparameters=0,
        check_steps=8000,
    ),
    "cpu": Config(),
    "accelerator": Config(
        decays=101,
        classes=(2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000),
        side=97,
        hyperparameters=65,
    ),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_conditioning"),
) -> None:
    """Sweep, check against gradient descent, and write tables and figures.

    Args:
        preset: smoke takes seconds, cpu minutes.
        run: folder; a run that was killed goes on, and a finished one draws its figures again.
    """
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    config = PRESETS[preset]
    runs.open_run(run, config)
    with jax.enable_x64(True):
        parts = list(pieces(config))
        tables = {
            name: kept(run / "parts" / f"{name}.csv", work)
            for name, work in progress.bar(parts, desc="sweeps", unit=" sweeps")
        }
    rates = tables.pop("rates")
    points = pd.concat([table.assign(sweep=name.split("-")[0]) for name, table in tables.items()])
    for name, table in (summarize(points) | {"rates": rates}).items():
        runs.write_atomically(run / f"{name}.csv", table.to_csv(index=False))
        print(f"\n{name}\n{table.to_string(index=False, float_format=lambda x: f'{x:.4g}')}")
    runs.write_atomically(run / "points.csv", points.to_csv(index=False))
    kinds = {
        "decay": rf"equal decay $\lambda$ = {config.decay:g}",
        "ratio": f"equal decay ratio {config.ratio:g}",
    }
    draw(points, kinds, run / "figures")
    print(f"written: {run}")


# The sweeps


def pieces(config: Config) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    """The name and the work of every sweep."""
    K = config.num_classes
    for name in config.variants:
        yield f"decay-{name}", functools.partial(over_decay, config, name)
    for K_swept, name in itertools.product(config.classes, config.variants):
        both = functools.partial(
            compared, config, *VARIANTS[name], K_swept, decay=config.decay_over_classes, name=name
        )
        yield f"classes-{K_swept:04d}-{name}", both
    for loss, name, most in [("focal", "gamma", 8.0), ("label_smoothing", "smoothing", 0.5)]:
        values = {name: np.linspace(0, most, config.hyperparameters)}
        if config.hyperparameters:
            yield name, functools.partial(compared, config, loss, values, K)
    axis = np.geomspace(1 / 4, 16, config.side)
    scale, target = (values.ravel() for values in np.meshgrid(axis, axis))
    yield "mse", functools.partial(compared, config, "mse", {"scale": scale, "target": target}, K)
    scale, target = np.array(PAIRS, float).T
    yield "pairs", functools.partial(compared, config, "mse", {"scale": scale, "target": target}, K)
    for name in config.variants:
        yield f"losses-{name}", functools.partial(compared, config, *VARIANTS[name], K, name=name)
    yield "rates", functools.partial(measured_rates, config)


def over_decay(config: Config, name: str) -> pd.DataFrame:
    """One loss over the decay."""
    loss, settings = VARIANTS[name]
    decays = np.geomspace(1e-6, 1e-1, config.decays)
    return measured(config, loss, config.num_classes, decays, settings).assign(variant=name)


def compared(
    config: Config,
    loss: str,
    settings: dict[str, Any],
    K: int,
    *,
    decay: float | None = None,
    name: str = "",
) -> pd.DataFrame:
    """Settings of a loss at equal decay, and at equal decay ratio."""
    decay = config.decay if decay is None else decay
    equal_decay = measured(config, loss, K, np.asarray(decay), settings)
    # The pull at the origin hardly depends on the decay (of the bias): repetition finds the ratio.
    decays = np.asarray(1e-6)
    for _ in range(2):
        found = measured(config, loss, K, decays, settings)
        decays = config.ratio * (found["escape_rate"] + found["decay"]).to_numpy()
    equal_ratio = measured(config, loss, K, decays, settings)
    kinds = {"decay": equal_decay, "ratio": equal_ratio}
    return pd.concat([table.assign(equal=kind, variant=name) for kind, table in kinds.items()])


def measured(
    config: Config, loss: str, K: int, decays: np.ndarray, settings: dict[str, Any]
) -> pd.DataFrame:
    """The exact numbers of problems that differ in decay and hyperparameters."""
    columns = np.broadcast_arrays(np.atleast_1d(decays), *settings.values())
    names = ("decay", *settings)
    items = {name: column.astype(float) for name, column in zip(names, columns, strict=True)}
    point = _point(loss, K, config.samples_per_class)
    table = pd.DataFrame(items | parallel.sweep(point, items, chunk=32 if K <= 10 else 4))
    for end in ("largest_in", "smallest_in"):
        table[end] = np.array(FAMILIES)[table[end]]
    # Most problems have eigenvalues that are the decay itself, in several families.
    alone = np.isclose(table["smallest"], table["decay"], rtol=1e-9)
    table.loc[alone, "smallest_in"] = "decay alone"
    table["ratio"] = table["decay"] / (table["escape_rate"] + table["decay"])
    return table.assign(loss=loss, num_classes=K)


def problem_of(loss: str, K: int, samples: int, item: dict[str, Any]) -> ufm.Problem:
    """All decays equal, d = 2 K."""
    settings = {name: value for name, value in item.items() if name != "decay"}
    decay = item["decay"]
    return ufm.Problem(K, 2 * K, samples, loss, decay, decay, decay, settings)


@functools.lru_cache
def _point(loss: str, K: int, samples: int) -> Callable[[dict[str, Any]], dict[str, jax.Array]]:
    def point(item: dict[str, Any]) -> dict[str, jax.Array]:
        problem = problem_of(loss, K, samples, item)
        found, spectrum = ufm.conditioning(problem), ufm.spectrum_at_minimizer(problem)
        family = np.array([FAMILIES.index(label) for label in spectrum.labels])
        values = jnp.where(spectrum.multiplicities > 0, spectrum.eigenvalues, -jnp.inf)
        # W sees a deviation within a class where its curvature is not the decay alone.
        seen = (family == 1) & (values > (1 + 1e-6) * item["decay"])
        collapse = jnp.where(seen, values, jnp.inf).min()
        safe = jnp.maximum(found.largest, largest_at_origin(problem, found.escape_rate))
        best = ufm.minimizer(problem, compact=True)
        row = {
            "logit_gap": best.logit_gap,
            "largest": found.largest,
            "smallest": found.smallest,
            "escape_rate": found.escape_rate,
            "collapse_rate": collapse,
            "largest_in": jnp.asarray(family)[jnp.argmax(values)],
            "smallest_in": jnp.asarray(family)[jnp.argmin(jnp.abs(values - found.smallest))],
            "solved": best.converged,
        }
        for prefix, largest in [("", found.largest), ("safe_", safe)]:
            row[f"{prefix}condition_number"] = largest / found.smallest
            row[f"{prefix}escape_steps"] = 1 / jnp.log1p(found.escape_rate / largest)
            row[f"{prefix}collapse_steps"] = -1 / jnp.log1p(-collapse / largest)
        return row

    return point


def largest_at_origin(problem: ufm.Problem, escape_rate: jax.Array) -> jax.Array:
    """The largest eigenvalue at W = H = 0: the bias's, or the partner of the escape eigenvalue.

    The Hessians of our losses at equal logits do not depend on the logits' common value.
    """
    K, zero = problem.num_classes, jnp.zeros_like(escape_rate)
    loss = loss_at(problem, zero, zero)
    own = (loss.both_true + (K - 1) * loss.other) / K  # mean of the classes' Hessians: diagonal,
    between = (2 * loss.true_other + (K - 2) * loss.others) / K  # and off it
    of_bias = jnp.maximum(own - between, own + (K - 1) * between) + problem.lambda_b
    return jnp.maximum(of_bias, problem.lambda_w + problem.lambda_h + escape_rate)


# The check: plain gradient descent


def measured_rates(config: Config) -> pd.DataFrame:
    """Exact against measured: last approach, with two steps, and growth from the origin."""
    rows = []
    for name, decay in itertools.product(config.variants, (5e-3, 2e-2)):
        loss, settings = VARIANTS[name]
        problem = problem_of(loss, 4, 3, {"decay": decay, **settings})
        exact = ufm.conditioning(problem)
        L, m, s = (float(x) for x in (exact.largest, exact.smallest, exact.escape_rate))
        safe = max(L, float(largest_at_origin(problem, exact.escape_rate)))
        best = ufm.expand(ufm.minimizer(problem, compact=True).params, problem)
        anywhere = ufm.init(jax.random.key(1), problem)
        slowest = ufm.eigenpair(best, problem, int(exact.flat)).vector
        for what, origin, length, direction, step, expected in [
            ("approach, step 2/(L+m)", best, 1e-3, anywhere, 2 / (L + m), (L - m) / (L + m)),
            ("slowest direction, step 1/L", best, 1e-3, slowest, 1 / L, 1 - m / L),
            ("escape, safe step", None, 1e-7, anywhere, 1 / safe, 1 + s / safe),
        ]:
            origin = origin or jax.tree.map(jnp.zeros_like, best)
            start = jax.tree.map(lambda x, v, length=length: x + length * v, origin, direction)
            path = descend(start, problem, step, config.check_steps)
            rate = _slope(path, what.startswith("escape"))
            difference = abs(np.log(rate / expected) / np.log(expected))
            row = {"variant": name, "decay": decay, "kappa": L / m, "what": what}
            rows.append(row | {"exact": expected, "measured": rate, "difference": difference})
    return pd.DataFrame(rows)


@functools.partial(jax.jit, static_argnames="steps")
def descend(
    start: ufm.Params, problem: ufm.Problem, step: float | jax.Array, steps: int
) -> dict[str, jax.Array]:
    """Plain gradient descent; the gradient norm and the size of the features after each step."""

    def move(params: ufm.Params, _: None) -> tuple[ufm.Params, dict[str, jax.Array]]:
        slope = ufm.gradient(params, problem)
        size = jnp.sqrt(jnp.square(params.W).sum() + jnp.square(params.H).sum())
        seen = {"gradient": norm(slope, problem), "size": size}
        return jax.tree.map(lambda p, g: p - step * g, params, slope), seen

    return jax.lax.scan(move, start, None, length=steps)[1]


def _slope(path: dict[str, jax.Array], growing: bool) -> float:
    """The factor of one step, where the linear law has taken over and rounding not yet."""
    values = np.asarray(path["size" if growing else "gradient"])
    relative = values / values[0]
    low, high = (1e2, 1e4) if growing else (1e-8, 1e-4)
    inside = (relative > low) & (relative < high)
    places = np.flatnonzero(inside)
    if len(places) < 3:
        return float("nan")
    return float(np.exp(np.polyfit(places, np.log(values[places]), 1)[0]))


# Tables


def summarize(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The short tables: losses side by side, growth with the decay, and rescaled MSE."""
    losses = points[points["sweep"] == "losses"]
    shown = ["equal", "variant", "decay", "ratio", "logit_gap", "largest_in", "smallest_in"]
    mse = points[points["sweep"] == "mse"]
    pairs = points[points["sweep"] == "pairs"]
    # Of MSE the eigenvalues are largest at the minimiser: every step is safe at the origin.
    return {
        "losses": losses[[*shown, *STEPS, *SAFE]].sort_values("equal", kind="stable"),
        "growth": growth(points[points["sweep"] == "decay"]),
        "rescaling": pd.concat([least(mse, equal) for equal in ("decay", "ratio")]),
        "pairs": pairs[["equal", "scale", "target", "decay", "ratio", *STEPS]],
    }


def growth(points: pd.DataFrame) -> pd.DataFrame:
    """The exponent p of condition numbers ~ decay^-p where the decay is small."""
    rows = []
    for name, table in points[points["decay"] < 1.1e-4].groupby("variant", sort=False):
        logs = -np.log(table["decay"])
        row = {"variant": name}
        for column in ("condition_number", "safe_condition_number"):
            row[f"exponent of {column}"] = np.polyfit(logs, np.log(table[column]), 1)[0]
        rows.append(row)
    return pd.DataFrame(rows)


def least(mse: pd.DataFrame, equal: str) -> pd.DataFrame:
    """Where over (scale, target) each criterion is best, beside plain MSE."""
    table = mse[(mse["equal"] == equal) & mse["solved"]]
    plain = table.loc[(np.log(table["scale"]) ** 2 + np.log(table["target"]) ** 2).idxmin()]
    rows = []
    for name in STEPS:
        best = table.loc[table[name].idxmin()]
        row = {"equal": equal, "criterion": name, "plain MSE": plain[name], "least": best[name]}
        row |= {"at scale": best["scale"], "at target": best["target"]}
        rows.append(row | {"plain / least": plain[name] / best[name]})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    tyro.cli(main)
