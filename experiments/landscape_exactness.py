"""Is what the landscape computes exact? Spectra, counts and Newton against dense NumPy matrices.

The unconstrained feature model is written down a second time in NumPy, from its definition
(`experiments.ufm_in_numpy`), and held against the library, in float64:

1. the closed spectrum at the symmetric minimiser (`ufm.spectrum_at_minimizer`) against `eigvalsh`
   of the dense Hessian, over all small sizes;
2. counts below a shift (`ufm.count_below`) and single eigenvalues by slicing (`ufm.eigenpair`), at
   random and critical points, classes equal and not, against the same;
3. Newton (`ufm.solve`) from random starts: how many reach a gradient norm of 1e-10 within 60
   steps, by a fresh gradient, and whether `converged` tells the truth.

    python -m experiments.landscape_exactness --preset cpu --run runs/landscape_exactness

Expected (preset cpu, 9 minutes on two cores, most of them compilation): the
aims are 1e-12 of the norm for spectra, no count that differs, 1e-10 of the norm for eigenvalues,
99 % of the starts of each loss and no false claim. All are met, MSE's 99 % by little (99.2 %).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from experiments import ufm_in_numpy as definition
from experiments.drawing.exactness import draw
from experiments.tables import kept, markdown
from ncjax import parallel, progress, runs, ufm
from ncjax.plots import LOSS_NAMES

KINDS: dict[str, tuple[str, dict[str, float], float]] = {
    "cross entropy": ("cross_entropy", {}, 1e-2),
    "label smoothing": ("label_smoothing", {"smoothing": 0.1}, 1e-2),
    "focal": ("focal", {"gamma": 3.0}, 1e-2),
    "MSE": ("mse", {"scale": 1.0, "target": 1.0}, 0.0),
    "MSE, rescaled": ("mse", {"scale": 3.0, "target": 2.0}, 0.0),
    "MSE, common component": ("mse", {"scale": 1.0, "target": 15.0}, 0.1),
}
"""Loss, hyperparameters and lambda_b of the kinds of symmetric minimiser."""

REACHED = 1e-10
"""The gradient norm at which a start counts as solved."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Spectra:
    """Closed spectra: the product of everything listed.

    Attributes:
        kinds: keys of `KINDS`. With a common component d >= K alone.
        num_classes: values of K.
        extra_dims: values of d - K.
        samples_per_class: values of n.
        decays: pairs (lambda_w, lambda_h).
    """

    kinds: tuple[str, ...] = tuple(KINDS)
    num_classes: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    extra_dims: tuple[int, ...] = (-1, 0, 1, 2, 3)
    samples_per_class: tuple[int, ...] = (1, 2, 3, 4)
    decays: tuple[tuple[float, float], ...] = ((5e-3, 2e-3), (5e-4, 5e-4))


@dataclasses.dataclass(frozen=True)
class Slices:
    """Counts and single eigenvalues.

    Attributes:
        problems: (loss, K, d, samples per class).
        points: random points of each of the scales 0.1, 1 and 3, beside critical ones of the
            ranks 0, 1 and 2.
        shifts: at each point: half of them uniform over the spectrum, half in a random gap between
            eigenvalues that is wider than 1e-8 of the norm.
        places: random places at each point whose eigenpairs are found.
    """

    problems: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
        ("cross_entropy", 3, 4, (2, 1, 2)),
        ("cross_entropy", 5, 4, (3, 3, 3, 3, 3)),
        ("label_smoothing", 4, 3, (5, 1, 2, 2)),
        ("focal", 4, 6, (3, 3, 3, 3)),
        ("focal", 3, 5, (1, 3, 2)),
        ("mse", 4, 5, (4, 1, 1, 1)),
    )
    points: int = 4
    shifts: int = 20
    places: int = 6


@dataclasses.dataclass(frozen=True)
class Newton:
    """Random starts: the product of everything listed, whole points and compact ones.

    Attributes:
        losses: names, with their default hyperparameters.
        num_classes: values of K.
        extra_dims: values of d - K.
        samples_per_class: values of n.
        lambdas: values of lambda_w and of lambda_h, in all pairs.
        bias_decays: values of lambda_b.
        scales: typical norms of the rows of a start.
        seeds: starts of each.
        max_steps: of the solver.
        few_steps: so few that many starts fail: compact starts at the middle K and the largest d
            are solved with them too, to see whether `converged` says so.
    """

    losses: tuple[str, ...] = ("cross_entropy", "label_smoothing", "focal", "mse")
    num_classes: tuple[int, ...] = (2, 4, 8)
    extra_dims: tuple[int, ...] = (-1, 3)
    samples_per_class: tuple[int, ...] = (1, 4)
    lambdas: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    bias_decays: tuple[float, ...] = (0.0, 1e-2)
    scales: tuple[float, ...] = (0.1, 1.0)
    seeds: int = 3
    max_steps: int = 60
    few_steps: int = 12


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared with what."""

    spectra: Spectra = Spectra()
    slices: Slices = Slices()
    newton: Newton = Newton()
    seed: int = 0


PRESETS = {
    "smoke": Config(
        Spectra(("MSE, common component",), (3,), (0,), (1, 2)),
        Slices((("focal", 3, 3, (2, 1, 1)),), points=1, shifts=4, places=2),
        Newton(("cross_entropy",), (2,), (-1,), (2,), seeds=2),
    ),
    "cpu": Config(),
    "accelerator": Config(newton=Newton(seeds=30)),
}


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_exactness"),
) -> None:
    """Compare, and write the tables and the figure.

    Args:
        preset: how much.
        run: folder for everything.
    """
    started = time.perf_counter()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    with jax.enable_x64(True):
        tables = compare(PRESETS[preset], runs.open_run(run, PRESETS[preset]))
    summary = summarize(**tables)
    steps = step_counts(tables["newton"])
    for name, table in (tables | {"summary": summary, "steps": steps}).items():
        runs.write_atomically(run / f"{name}.csv", table.to_csv(index=False))
    figure = run / "figures" / "landscape_exactness.png"
    draw(tables["spectra"], full(tables["newton"]), REACHED, figure)
    report = "\n\n".join(markdown(table.set_index(table.columns[0])) for table in (summary, steps))
    runs.write_atomically(run / "summary.md", report + "\n")
    print(report)
    print(f"written: {run / 'summary.md'}, after {time.perf_counter() - started:.0f} s")


def compare(config: Config, run: Path) -> dict[str, pd.DataFrame]:
    """All comparisons, one row a case; those that an interrupted run has finished are read."""
    tables: dict[str, list[pd.DataFrame]] = {}
    pieces = list(_pieces(config))
    for table, name, work in progress.bar(pieces, desc="exactness", unit=" pieces"):
        tables.setdefault(table, []).append(kept(run / "parts" / f"{table}-{name}.csv", work))
        jax.clear_caches()  # no piece needs another's programs, and all together fill the memory
    return {name: pd.concat(found, ignore_index=True) for name, found in tables.items()}


def _pieces(config: Config) -> Iterator[tuple[str, str, Callable[[], pd.DataFrame]]]:
    """Table, name and work of each piece; a piece is what one compiled program serves, or a few."""
    spectra, slices, newton = config.spectra, config.slices, config.newton
    losses = dict.fromkeys(KINDS[kind][0] for kind in spectra.kinds)
    for loss, K in itertools.product(losses, spectra.num_classes):
        yield "spectra", f"{loss}-K{K}", functools.partial(_spectrum, spectra, loss, K)
    for number, case in enumerate(slices.problems):
        name = f"{number}-{case[0]}-K{case[1]}-d{case[2]}"
        yield "slices", name, functools.partial(_slice, slices, case, config.seed + number)
    middle = newton.num_classes[len(newton.num_classes) // 2]
    for loss, K, extra in itertools.product(newton.losses, newton.num_classes, newton.extra_dims):
        programs = [(None, newton.max_steps)]
        if middle == K and extra == newton.extra_dims[-1]:
            programs.append((None, newton.few_steps))
        # With one sample a class and no column more than classes, compact points are whole ones.
        wider = [n for n in newton.samples_per_class if n > 1 or extra > 0]
        programs += [(n, newton.max_steps) for n in wider]
        for samples, max_steps in programs:
            name = f"{loss}-K{K}-d{K + extra}-n{samples or 'any'}-{max_steps}"
            program = _Program(loss, K, K + extra, samples, max_steps)
            yield "newton", name, functools.partial(_newton, newton, program, config.seed)


def _spectrum(spectra: Spectra, loss: str, K: int) -> pd.DataFrame:
    rows = []
    kinds = [kind for kind in spectra.kinds if KINDS[kind][0] == loss]
    for kind, extra, n, decays in itertools.product(
        kinds, spectra.extra_dims, spectra.samples_per_class, spectra.decays
    ):
        _, hyperparameters, lambda_b = KINDS[kind]
        if extra < 0 and loss == "mse" and lambda_b > 0:  # too narrow for the common component
            continue
        problem = ufm.Problem(K, K + extra, n, loss, *decays, lambda_b, hyperparameters)
        # Traced sizes, so that one program serves all n.
        traced = dataclasses.replace(problem, samples_per_class=jnp.asarray(n))
        spectrum = ufm.spectrum_at_minimizer(traced)
        point = definition.whole(ufm.minimizer(traced, compact=True).params, problem)
        dense = np.linalg.eigvalsh(definition.hessian(point, problem))
        counts = np.asarray(spectrum.multiplicities).round().astype(int)
        closed = np.sort(np.repeat(np.asarray(spectrum.eigenvalues), counts))
        error = np.abs(closed - dense).max() / np.abs(dense).max()
        row = {"kind": kind, "num_classes": K, "feature_dim": K + extra, "samples_per_class": n}
        row |= {"lambda_w": decays[0], "lambda_h": decays[1], "parameters": len(dense)}
        rows.append(row | {"error": error})
    return pd.DataFrame(rows)


def _slice(slices: Slices, case: tuple, seed: int) -> pd.DataFrame:
    """Counts and eigenvalues; `distance` is that of the shift, or of what was found, to H's own."""
    loss, K, d, samples = case
    problem = ufm.Problem(K, d, samples, loss, 5e-3, 2e-3, 1e-2)
    rng = np.random.default_rng(seed)
    points = _points(problem, jax.random.key(seed), slices.points)
    whole = [
        definition.whole(jax.tree.map(lambda leaf, i=i: leaf[i], points), problem)
        for i in range(len(points.W))
    ]
    dense = [np.linalg.eigvalsh(definition.hessian(point, problem)) for point in whole]
    shifts = np.stack([_shifts(values, slices.shifts, rng) for values in dense])
    places = rng.integers(0, len(dense[0]), (len(dense), slices.places))
    counts = np.asarray(_counts(points, problem, shifts))
    pairs = jax.device_get(_eigenpairs(points, problem, places))
    rows = []
    for i, values in enumerate(dense):
        of_point = {"loss": loss, "num_classes": K, "feature_dim": d, "point": i}
        norm = np.abs(values).max()
        for shift, count in zip(shifts[i], counts[i], strict=True):
            distance = np.abs(values - shift).min() / norm
            error = abs(int(count) - int((values < shift).sum()))
            row = {"quantity": "count", "at": shift, "distance": distance, "error": error}
            rows.append(of_point | row)
        for j, place in enumerate(places[i]):
            error = abs(pairs.eigenvalue[i, j] - values[place]) / norm
            nearest = np.abs(pairs.eigenvalue[i, j] - values).min() / norm
            row = {"quantity": "eigenvalue", "at": place, "distance": nearest, "error": error}
            rows.append(of_point | row | {"converged": pairs.converged[i, j]})
    return pd.DataFrame(rows)


def _shifts(eigenvalues: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Half anywhere in the spectrum, half in a gap that is as likely as any other."""
    low, high = eigenvalues[[0, -1]]
    gaps = np.diff(eigenvalues)
    wide = np.flatnonzero(gaps > 1e-8 * np.abs(eigenvalues).max())
    chosen = rng.choice(wide, number - number // 2)
    inside = eigenvalues[chosen] + rng.uniform(size=len(chosen)) * gaps[chosen]
    return np.concatenate([rng.uniform(low, high, number // 2), inside])


@functools.partial(jax.jit, static_argnames="number")
def _points(problem: ufm.Problem, key: jax.Array, number: int) -> ufm.Params:
    """Random points off criticality, their biases too, and critical ones of ranks 0, 1, 2."""
    keys, of_b = jax.random.split(key, 3 * number), jax.random.fold_in(key, 1)
    scales = jnp.repeat(jnp.array([0.1, 1.0, 3.0]), number)
    random = jax.vmap(lambda key, scale: ufm.init(key, problem, scale))(keys, scales)
    biases = scales[:, None] * jax.random.normal(of_b, random.b.shape)
    random = dataclasses.replace(random, b=biases)
    critical = jax.vmap(lambda rank: ufm.critical_point(key, problem, rank).params)(jnp.arange(3))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), random, critical)


@jax.jit
def _counts(points: ufm.Params, problem: ufm.Problem, shifts: jax.Array) -> jax.Array:
    over_shifts = jax.vmap(lambda p, t: ufm.count_below(p, problem, t), in_axes=(None, 0))
    return jax.vmap(over_shifts)(points, shifts)


@jax.jit
def _eigenpairs(points: ufm.Params, problem: ufm.Problem, places: jax.Array) -> ufm.Eigenpair:
    over_places = jax.vmap(lambda p, i: ufm.eigenpair(p, problem, i), in_axes=(None, 0))
    return jax.vmap(over_places)(points, places)


class _Program(NamedTuple):
    """What is static in one compiled program of Newton."""

    loss: str
    num_classes: int
    feature_dim: int
    samples: int | None
    """None for compact points, whose sizes are traced."""
    max_steps: int


def _newton(newton: Newton, program: _Program, seed: int) -> pd.DataFrame:
    loss, K, d, samples, max_steps = program
    sizes = newton.samples_per_class if samples is None else (samples,)
    ranges = {
        "samples_per_class": sizes,
        "lambda_w": newton.lambdas,
        "lambda_h": newton.lambdas,
        "lambda_b": newton.bias_decays,
        "scale": newton.scales,
        "seed": range(newton.seeds),
    }
    grid = np.meshgrid(*ranges.values(), indexing="ij")
    items = {name: axis.ravel() for name, axis in zip(ranges, grid, strict=True)}
    found = parallel.sweep(
        functools.partial(_solved, program=program),
        items,
        key=jax.random.key(seed),
        together=8,
        backend="vmap",
    )
    rows = []
    for place in range(len(items["seed"])):
        item = {name: column[place].item() for name, column in items.items()}
        problem = _problem(program, item, item["samples_per_class"])
        solution = jax.tree.map(lambda leaf, place=place: leaf[place], found)
        point = definition.whole(solution.params, problem)
        row = {"loss": loss, "num_classes": K, "feature_dim": d} | item
        row |= {"form": "compact" if samples is None else "whole", "max_steps": max_steps}
        row |= {"steps": solution.steps, "converged": solution.converged}
        row["gradient_norm"] = np.linalg.norm(definition.gradient(point, problem))
        rows.append(row | {"claimed": solution.gradient_norm, "limit": 1e-9 * problem.force})
    return pd.DataFrame(rows)


def _solved(key: jax.Array, item: dict[str, jax.Array], *, program: _Program) -> ufm.Solution:
    problem = _problem(program, item, program.samples or item["samples_per_class"])
    start = ufm.init(key, problem, item["scale"], compact=program.samples is None)
    return ufm.solve(start, problem, max_steps=program.max_steps)


def _problem(program: _Program, item: dict[str, Any], samples: int | jax.Array) -> ufm.Problem:
    loss, K, d, *_ = program
    return ufm.Problem(K, d, samples, loss, item["lambda_w"], item["lambda_h"], item["lambda_b"])


def summarize(spectra: pd.DataFrame, slices: pd.DataFrame, newton: pd.DataFrame) -> pd.DataFrame:
    """One row a claim: how many cases, how bad at most, how bad in fact, and where."""
    rows = [
        _claim(f"closed spectrum, {kind}: error / norm", cases, cases["error"], 1e-12)
        for kind, cases in spectra.groupby("kind", sort=False)
    ]
    counts, values = (slices[slices["quantity"] == name] for name in ("count", "eigenvalue"))
    rows += [
        _claim("counts below a shift: wrong ones", counts, counts["error"] > 0, 0),
        _claim("eigenvalue by place: error / norm", values, values["error"], 1e-10),
        _claim("the same: distance to the nearest", values, values["distance"], 1e-10),
        _claim("the same: not converged", values, values["converged"] == 0, 0),
    ]
    for loss, cases in full(newton).groupby("loss", sort=False):
        name = f"Newton, {LOSS_NAMES[loss]}: share of starts not there"
        row = _claim(name, cases, cases["gradient_norm"] > REACHED, 0.01)
        rows.append(row | {"found": row["found"] / len(cases)})
    # A gradient computed anew differs by rounding from the one that the solver saw.
    unsolved = newton[newton["gradient_norm"] > newton["limit"] + 1e-15]
    name = "Newton, gradient above the tolerance: claims to have converged"
    rows.append(_claim(name, unsolved, unsolved["converged"].astype(bool), 0))
    return pd.DataFrame(rows)


def _claim(quantity: str, cases: pd.DataFrame, badness: pd.Series, aim: float) -> Row:
    """What was found is the number of bad cases, or the largest error."""
    found = badness.sum() if badness.dtype == bool else badness.max()
    where = ""
    if found > 0:
        named = cases[[name for name in _SYMBOLS if name in cases]].astype(object)
        worst = named.loc[badness.idxmax()]
        where = ", ".join(f"{_SYMBOLS[name]} {value}".strip() for name, value in worst.items())
    row = {"quantity": quantity, "cases": len(cases), "aim, at most": aim, "found": found}
    return row | {"worst at": where}


_SYMBOLS = {
    "loss": "",
    "num_classes": "K",
    "feature_dim": "d",
    "samples_per_class": "n",
    "lambda_w": "lambda_w",
    "lambda_h": "lambda_h",
    "lambda_b": "lambda_b",
    "scale": "scale",
    "form": "",
    "point": "point",
}


def full(newton: pd.DataFrame) -> pd.DataFrame:
    """The starts that had all their steps."""
    return newton[newton["max_steps"] == newton["max_steps"].max()]


def step_counts(newton: pd.DataFrame) -> pd.DataFrame:
    """How many steps Newton took, by loss and form of the points."""
    groups = full(newton).groupby(["loss", "form"], sort=False)["steps"]
    table = groups.quantile([0.5, 0.9, 0.99, 1.0]).unstack()
    table.columns = ["median", "90 %", "99 %", "most"]
    table = table.assign(starts=groups.size()).reset_index()
    return table.astype({name: int for name in ("median", "90 %", "99 %", "most", "starts")})


if __name__ == "__main__":
    tyro.cli(main)
