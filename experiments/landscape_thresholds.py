"""Where the landscape changes its form: exact thresholds, and solutions found on both sides.

1. Decay beats the loss: cross entropy and label smoothing collapse to zero at K tau = 1 and
   K tau = 1 - alpha, MSE at K tau = M, continuously (tau = sqrt(n lambda_w lambda_h)).
2. Focal, from 18 classes on (gamma 3), jumps: at the penalty that `ufm.check_contrastive` names,
   the origin and an ETF are equally good, and between them no symmetric point is best.
3. MSE with a decayed bias takes a common component from lambda_b / (1 + lambda_b) = K tau / M on.
4. Focal is convex in the logits where the true class has at least a certain probability.
5. Below d = K - 1 the simplex ETF does not fit; MSE then keeps d of its K - 1 equal modes.
6. The number of classes up to which focal and poly-1 are contrastive.

Solutions are those of structured Newton from random starts; curves are theory.

    python -m experiments.landscape_thresholds --preset cpu

Expected (preset cpu, 2 minutes on two cores, most of them compilation): all 600 solutions of the
convex losses are certified global minimisers on their curves, within 4e-9; focal ones lie on the
best symmetric curve within 4e-10; none of 8,390 random logits with p beyond the threshold has
negative curvature; the numbers of classes are those of theory.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.optimize
import tyro

from experiments.drawing.thresholds import figure
from experiments.tables import kept
from ncjax import losses, parallel, progress, runs, ufm
from ncjax.curvature import Verdict


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is measured.

    Attributes:
        values: of the quantity that is swept.
        starts: random starts at each.
        focal_classes: numbers of classes of panel 2.
        bias_pulls: values of K tau / M of panel 3.
        gammas: of panels 4 and 6.
        epsilons: of panel 6.
        logits: random logits for each gamma of panel 4.
    """

    values: int
    starts: int
    focal_classes: tuple[int, ...]
    bias_pulls: tuple[float, ...]
    gammas: tuple[float, ...]
    epsilons: tuple[float, ...]
    logits: int


PRESETS = {
    "smoke": Config(4, 1, (18,), (0.3,), (3.0,), (2.0,), 200),
    "cpu": Config(
        25, 4, (10, 20), (0.1, 0.3, 0.6), (1.0, 2.0, 3.0, 5.0), (1.5, 2.0, 3.0, 5.0), 4000
    ),
    "accelerator": Config(
        100,
        32,
        (10, 20, 30),
        (0.1, 0.3, 0.6),
        (0.5, 1.0, 2.0, 3.0, 5.0, 8.0),
        (1.2, 1.5, 2.0, 3.0, 5.0),
        100_000,
    ),
}
K = 10


def main(
    preset: Literal["smoke", "cpu", "accelerator"] = "cpu",
    run: Path = Path("runs/landscape_thresholds"),
) -> None:
    """Measure the six panels, each kept in a file, and draw them.

    Args:
        preset: how much.
        run: folder for everything; the same command goes on where a killed one stopped.
    """
    parallel.use_all_cores()
    print(f"device: {jax.devices()[0].device_kind}, writing to {run}")
    config = PRESETS[preset]
    runs.open_run(run, config)
    tables = {}
    for name, measure in progress.bar(PANELS.items(), desc="panels", unit=" panels"):
        with jax.enable_x64(True):
            tables[name] = kept(run / f"{name}.csv", functools.partial(measure, config))
    (run / "figures").mkdir(exist_ok=True)
    figure(tables, LIMITS, run / "figures" / "thresholds.png")
    found = summary(tables)
    runs.write_atomically(run / "summary.csv", found.to_csv())
    print(found.to_string())
    print(f"written: {run}")


def collapse_to_zero(config: Config) -> pd.DataFrame:
    """Logit gaps over K tau, for the three convex losses."""
    pull = np.linspace(0.05, 1.3, config.values)
    kinds = {"cross_entropy": {}, "label_smoothing": {"smoothing": 0.1}, "mse": {}}
    return pd.concat([solved(loss, K, K + 2, 5, pull, config, hp) for loss, hp in kinds.items()])


def focal_jump(config: Config) -> pd.DataFrame:
    """Logit gaps of focal over K tau, with the penalty at which two are equally good."""
    pull, tables = np.linspace(0.4, 1.6, config.values), []
    config = dataclasses.replace(config, starts=max(1, config.starts // 4))
    for classes in config.focal_classes:
        bends = ufm.check_contrastive("focal", classes, {"gamma": 3.0}).double_minima
        jump = bends[0][0] * classes / (classes - 1) if bends else np.nan
        # Small and large starts, for there are two basins.
        for scale in (0.1, 3.0):
            table = solved("focal", classes, classes, 1, pull, config, {"gamma": 3.0}, scale=scale)
            tables.append(table.assign(jump=jump))
    return pd.concat(tables)


def common_component(config: Config) -> pd.DataFrame:
    """The common component of MSE over lambda_b, for several K tau."""
    lambda_b = np.geomspace(1e-2, 1e1, config.values)
    return pd.concat(
        [
            solved("mse", K, K + 2, 5, np.full_like(lambda_b, pull), config, {}, lambda_b)
            for pull in config.bias_pulls
        ]
    )


def focal_convexity(config: Config) -> pd.DataFrame:
    """Smallest eigenvalue of the focal loss's Hessian in random logits, with the bound on p."""

    @jax.jit
    def examined(logits: jax.Array, gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
        hessian = jax.hessian(lambda z: losses.focal(z, 0, gamma))
        smallest = jnp.linalg.eigvalsh(jax.vmap(hessian)(logits))[:, 0]
        return jax.nn.softmax(logits)[:, 0], smallest

    rng = np.random.default_rng(0)
    shape = (config.logits, K)
    logits = rng.normal(size=shape) * rng.uniform(0.1, 3, (config.logits, 1))
    rows = []
    for gamma in config.gammas:
        p, smallest = map(np.asarray, examined(logits, gamma))
        safe = least_convex_probability(gamma)
        rows.append(pd.DataFrame({"gamma": gamma, "p": p, "smallest": smallest, "safe": safe}))
    return pd.concat(rows)


def least_convex_probability(gamma: float) -> float:
    """The p_true above which focal is convex in the logits, and along equal ones (derived here)."""

    def sign(p: float) -> float:
        log_p = np.log(p)
        return gamma * ((1 - p) - gamma * p * log_p) + (1 - p) * (1 + gamma + gamma * log_p)

    return scipy.optimize.brentq(sign, 1e-12, 0.3)


def few_dimensions(config: Config) -> pd.DataFrame:
    """Best objectives found below d = K - 1."""
    pull = np.array([0.05])
    config = dataclasses.replace(config, starts=8 * config.starts)
    tables = [
        solved(loss, K, d, 1, pull, config, {}).assign(dimensions=d)
        for loss in ("cross_entropy", "mse")
        for d in (range(2, K + 1) if config.values > 10 else (K - 2, K - 1))
    ]
    best = pd.concat(tables).groupby(["loss", "dimensions"], sort=False)["objective"].min()
    best = best.reset_index()
    d = np.minimum(best["dimensions"], K - 1)
    gap = 1 - pull[0]  # of MSE: each mode that fits costs this much, each that does not 1 / 2K
    kept = (1 - gap) ** 2 / (2 * K) + pull[0] / K * gap
    mse = d * kept + (K - 1 - d) / (2 * K)
    return best.assign(theory=mse.where(best["loss"] == "mse"))


def contrastive_classes(config: Config) -> pd.DataFrame:
    """The largest number of classes for which a loss passes `check_contrastive`, and theory."""
    swept = [("focal", "gamma", value) for value in config.gammas]
    swept += [("poly1", "epsilon", value) for value in config.epsilons]
    rows = []
    for loss, name, value in swept:
        limit = LIMITS[loss](value)
        classes = max(2, int(limit) - 1)
        while ufm.check_contrastive(loss, classes + 1, {name: value}).holds:
            classes += 1
        rows.append({"loss": loss, "value": value, "measured": classes, "theory": limit})
    return pd.DataFrame(rows)


def solved(
    loss: str,
    classes: int,
    d: int,
    n: int,
    pull: np.ndarray,
    config: Config,
    hyperparameters: dict[str, float],
    lambda_b: np.ndarray | None = None,
    scale: float = 1.0,
) -> pd.DataFrame:
    """Points found from random starts at decays with K tau = pull, and the symmetric minimiser."""
    if lambda_b is None:
        lambda_b = np.full_like(pull, 0.0 if loss == "mse" else 1e-2)
    decay = pull / (classes * np.sqrt(n))
    items = {"decay": decay, "lambda_b": lambda_b}
    repeated = {name: np.repeat(x, config.starts) for name, x in items.items()}
    repeated["scale"] = np.full(len(repeated["decay"]), scale)
    shape = (loss, classes, d, n, tuple(hyperparameters.items()))
    settings = {"key": jax.random.key(0), "together": parallel.together_for_loops()}
    found = pd.DataFrame(parallel.sweep(_search(shape), repeated, **settings))
    table = found.assign(loss=loss, num_classes=classes, pull=np.repeat(pull, config.starts))
    table["lambda_b"] = repeated["lambda_b"]
    table["verdict"] = [Verdict(int(code)).label for code in table["verdict"]]
    if d < classes - 1:
        return table
    theory = parallel.sweep(_theory(shape), items)
    return table.assign(**{k: np.repeat(x, config.starts) for k, x in theory.items()})


def _problem(shape: tuple, item: dict[str, Any]) -> ufm.Problem:
    loss, classes, d, n, hyperparameters = shape
    decay, lambda_b = item["decay"], item["lambda_b"]
    return ufm.Problem(classes, d, n, loss, decay, decay, lambda_b, dict(hyperparameters))


@functools.lru_cache
def _search(shape: tuple) -> Callable[..., dict[str, jax.Array]]:
    def point(key: jax.Array, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        problem = _problem(shape, item)
        # With one sample a class a point is compact whatever the loss.
        start = ufm.init(key, problem, item["scale"], compact=True)
        params = ufm.solve(start, problem, max_steps=200).params
        certificate = ufm.certify(params, problem)
        Z = ufm.logits(params) - params.b[None, :]
        own, size = jnp.trace(Z), Z.shape[0]
        return {
            "gap": own / size - (Z.sum() - own) / (size * (size - 1)),
            "common": Z.sum() / size,
            "objective": certificate.objective,
            "verdict": certificate.verdict,
        }

    return point


@functools.lru_cache
def _theory(shape: tuple) -> Callable[..., dict[str, jax.Array]]:
    def best(item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        best = ufm.minimizer(_problem(shape, item), compact=True)
        return {
            "theory_gap": best.logit_gap,
            "theory_common": best.common,
            "theory_value": best.value,
        }

    return best


def summary(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How far the points are from theory, one row a panel."""
    rows = {}
    for name, column in [("collapse_to_zero", "gap"), ("common_component", "common")]:
        table = tables[name]
        good = table[table["verdict"] == "global_minimizer"]
        rows[name] = {
            "points": len(table),
            "certified global": len(good),
            "largest error": (good[column] - good[f"theory_{column}"]).abs().max(),
        }
    focal = tables["focal_jump"]
    best = focal[focal["verdict"] == "symmetric_minimum"]
    rows["focal_jump"] = {
        "points": len(focal),
        "at the symmetric minimum": len(best),
        "best below theory by": (focal["theory_value"] - focal["objective"]).max(),
        "largest error": (best["gap"] - best["theory_gap"]).abs().max(),
    }
    convex = tables["focal_convexity"]
    safe = convex["p"] >= convex["safe"]
    rows["focal_convexity"] = {
        "points": len(convex),
        "not convex where safe": int((convex["smallest"] < -1e-12)[safe].sum()),
        "not convex elsewhere": int((convex["smallest"] < -1e-12)[~safe].sum()),
    }
    few = tables["few_dimensions"]
    rows["few_dimensions"] = {
        "points": len(few),
        "largest error": (few["objective"] - few["theory"]).abs().max(),
    }
    classes = tables["contrastive_classes"]
    off = (classes["measured"] != np.floor(classes["theory"] + 1e-9)).sum()
    rows["contrastive_classes"] = {"points": len(classes), "off theory": int(off)}
    return pd.DataFrame.from_dict(rows, orient="index")


LIMITS: dict[str, Callable[[float], float]] = {
    "focal": lambda gamma: 1 / least_convex_probability(gamma),
    "poly1": lambda epsilon: 2 / (1 - 1 / epsilon),  # epsilon (1 - 2 / K) <= 1
}
PANELS: dict[str, Callable[[Config], pd.DataFrame]] = {
    "collapse_to_zero": collapse_to_zero,
    "focal_jump": focal_jump,
    "common_component": common_component,
    "focal_convexity": focal_convexity,
    "few_dimensions": few_dimensions,
    "contrastive_classes": contrastive_classes,
}


if __name__ == "__main__":
    tyro.cli(main)
