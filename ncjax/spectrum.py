"""The Hessian spectrum of a trained network: eigenpairs, verdict, density, class structure."""

from __future__ import annotations

import dataclasses
import functools
import json
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ncjax import checks, curvature, plots, progress, runs, training
from ncjax.curvature import Verdict, resumable
from ncjax.curvature.eigenpairs import lanczos_settings
from ncjax.curvature.program import Located, locate

_CLASS_MEMORY = 2**30


@dataclasses.dataclass(frozen=True)
class SpectrumConfig:
    """What to find out about a trained network.

    Attributes:
        top: largest eigenpairs; K + 2 if None.
        bottom: smallest eigenpairs, at least 1.
        num_steps: Hessian-vector products of the Lanczos run for both ends.
        num_probes: random probes of the density.
        density_steps: products for each probe.
        layers: glob patterns of parameter paths; the diagonal block of each match is examined too:
            "Dense_*" a block a layer, "*/kernel" a block a kernel, "head" the classifier.
        weight_decay: include lambda/2 ||params||^2, as in training. Without it the Hessian is that
            of the mean loss alone.
        batch_size: most examples at once. The whole training set always counts.
        classes: split the Gauss-Newton matrix by class (K K gradients and vectors).
        seed: of start vectors and probes.
    """

    top: int | None = None
    bottom: int = 3
    num_steps: int = 120
    num_probes: int = 4
    density_steps: int = 80
    layers: tuple[str, ...] = ()
    weight_decay: bool = True
    batch_size: int = 2048
    classes: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        layers = (self.layers,) if isinstance(self.layers, str) else tuple(self.layers)
        object.__setattr__(self, "layers", layers)
        if self.top is not None:
            checks.check_count("top", self.top, 0)
        for name in ("num_probes", "seed"):
            checks.check_count(name, getattr(self, name), 0)
        for name in ("bottom", "num_steps", "density_steps", "batch_size"):
            checks.check_count(name, getattr(self, name), 1)


def spectrum(
    run: Path | str,
    config: SpectrumConfig | None = None,
    out: Path | str | None = None,
    *,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Examines the Hessian of a training run's objective at its last checkpoint.

    The objective is the mean training loss, batch normalisation in inference mode, plus the weight
    decay, if it is on all parameters. What is done is kept in the folder: killed at any moment, the
    same call goes on.

    Args:
        run: the folder of a training run.
        config: what to find out.
        out: folder for `spectrum.json`, `density.png` and unfinished work; `<run>/spectrum` if
            None.
        show_progress: show progress bars.

    Returns:
        What `spectrum.json` holds: the verdict, eigenpairs with residuals and density by block,
        class structure.

    Raises:
        InputError: `run` holds no trained network, `out` an examination of other settings, or
            `layers` matches nothing.
    """
    config = SpectrumConfig() if config is None else config
    trained = training.load_run(run)
    params = trained.variables["params"]
    layers = curvature.blocks(params, config.layers) if config.layers else {}
    asked = dataclasses.asdict(config) | {
        "epoch": trained.epoch,
        "trained": dataclasses.asdict(trained.config),
        "data": trained.dataset.fingerprint,
    }
    data = (trained.dataset.images, trained.dataset.labels)
    uniform = config.weight_decay and trained.config.decay == "all"
    decay = trained.config.weight_decay if uniform else 0.0
    batch_size = min(config.batch_size, len(data[1]))
    operator = curvature.data_hessian(
        trained.example_loss, data, weight_decay=decay, batch_size=batch_size
    )
    whole = locate(operator, params)
    low, high, steps = _counts(whole.size, trained, config)
    lanczos_settings(whole, low + high, steps, 1, None)  # refused before the folder is taken
    out = runs.open_run(Path(run) / "spectrum" if out is None else out, asked)
    blocks = {}
    for name in ("all parameters", *layers):
        f, point = operator, params
        if name in layers:
            f, point = curvature.restrict_to(operator, params, layers[name])
        place = out / "blocks" / f"block-{urllib.parse.quote(name, safe='')}.json"
        blocks[name] = _kept(
            place, functools.partial(_block, name, f, point, trained, config, place, show_progress)
        )
        place.with_suffix(".npz").unlink(missing_ok=True)
    report = {
        "run": str(run),
        "epoch": trained.epoch,
        "loss": trained.config.loss,
        "weight_decay": decay,
        "blocks": blocks,
    }
    if config.classes:
        report["classes"] = _kept(
            out / "blocks" / "classes.json",
            lambda: _classes(trained, params, data, batch_size, config.seed),
        )
    runs.write_atomically(out / "spectrum.json", json.dumps(report, indent=2) + "\n")
    figure = out / "density.png"
    runs.write_atomically(figure, lambda path: plots.spectral_densities(report["blocks"], path))
    return report


def _kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds, computed and written if it is not there."""
    if not path.exists():
        runs.write_atomically(path, json.dumps(compute(), allow_nan=False) + "\n")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        remedy = "Delete it to have it computed again."
        raise checks.reject(str(path), f"damaged ({error})", "JSON", remedy) from error


def _block(
    name: str,
    f: curvature.Operator,
    point: Any,
    trained: training.Trained,
    config: SpectrumConfig,
    place: Path,
    show_progress: bool,
) -> dict[str, Any]:
    """Eigenpairs, verdict and density of one block; unfinished work is kept beside `place`."""
    located = locate(f, point)
    key = jax.random.key(config.seed)
    low, high, steps = _counts(located.size, trained, config)
    probe_steps = min(config.density_steps, located.size)
    with progress.bar(
        total=steps + config.num_probes * probe_steps,
        desc=name,
        unit=" products",
        show=show_progress,
    ) as bar:
        pairs, found = resumable.eigenpairs(
            located, low, high, steps, key, place.with_suffix(".npz"), bar.update
        )
        density = resumable.density(
            located, config.num_probes, probe_steps, key, place.with_suffix(".jsonl"), bar.update
        )
    found = curvature.confirmed(found, f, point)
    return _described(located, pairs, found, density)


def _counts(size: int, trained: training.Trained, config: SpectrumConfig) -> tuple[int, int, int]:
    """Smallest and largest eigenpairs, and products, of a block of p = size parameters."""
    high = trained.dataset.num_classes + 2 if config.top is None else config.top
    low = min(config.bottom, size)
    return low, min(high, size - low), min(config.num_steps, size)


def _described(
    located: Located,
    pairs: curvature.Eigenpairs,
    found: curvature.Examination,
    density: curvature.SpectralDensity | None,
) -> dict[str, Any]:
    verdict = Verdict(int(found.verdict))
    row = {
        "parameters": located.size,
        "verdict": verdict.label,
        "explanation": verdict.explanation,
        "objective": float(found.value),
        "gradient_norm": float(found.gradient_norm),
        "gradient_tolerance": float(found.gradient_tolerance),
        "escape_value": float(found.escape_value),
        "escape_residual": float(found.escape_residual),
        "curvature_tolerance": float(found.curvature_tolerance),
        "negative_at_least": int(found.negative),
        "positive_at_least": int(found.positive),
        "lower_bound_99_percent": _number(found.lower_bound),
        "products": pairs.num_steps,
        "breakdowns": int(pairs.breakdowns),
        "norm": float(pairs.scale),
        "eigenvalues": np.asarray(pairs.eigenvalues).tolist(),
        "residuals": np.asarray(pairs.residuals).tolist(),
        "converged": np.asarray(pairs.converged).tolist(),
    }
    if density is not None:
        mean, square = density.moment(1), density.moment(2)
        row |= {
            "nodes": np.asarray(density.nodes).tolist(),
            "weights": np.asarray(density.weights).tolist(),
            "mean_eigenvalue": float(mean.value),
            "mean_eigenvalue_error": _number(mean.standard_error),
            "mean_square": float(square.value),
            "mean_square_error": _number(square.standard_error),
        }
    return row


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _classes(
    trained: training.Trained, params: Any, data: tuple, batch_size: int, seed: int
) -> dict[str, Any]:
    """The class structure as JSON, or why there is none."""
    K = trained.dataset.num_classes
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    needed = 3 * K * K * size * 4
    if needed > _CLASS_MEMORY:
        return {"skipped": f"{K * K} vectors of {size:,} parameters need {needed / 2**30:.1f} GiB"}
    try:
        found = curvature.class_structure(
            trained.logits,
            trained.loss,
            params,
            *data,
            K,
            batch_size=batch_size,
            key=jax.random.key(seed),
        )
    except checks.InputError as error:
        return {"skipped": str(error)}
    return {name: np.asarray(value).tolist() for name, value in vars(found).items()}


def table(report: Mapping[str, Any]) -> str:
    """The eigenpairs of each block and what follows from them, for the terminal."""
    lines = []
    for name, row in report["blocks"].items():
        lines += [
            f"{name}: {row['parameters']:,} parameters, {row['products']} products",
            f"  objective {row['objective']:.6g}, gradient norm {row['gradient_norm']:.2e} "
            f"(tolerance {row['gradient_tolerance']:.2e})",
            f"  {'eigenvalue':>12}  {'residual':>9}  converged",
        ]
        rows = zip(row["eigenvalues"], row["residuals"], row["converged"], strict=True)
        lines += [
            f"  {value:12.5g}  {residual:9.1e}  {'yes' if converged else 'no'}"
            for value, residual, converged in reversed(list(rows))
        ]
        lines.append(f"  verdict: {row['verdict']}. {row['explanation']}")
        bound = row["lower_bound_99_percent"]
        if bound is not None:
            lines.append(f"  with 99 % probability no eigenvalue is below {bound:.4g}")
    classes = report.get("classes", {})
    if "skipped" in classes:
        lines.append(f"class structure: {classes['skipped']}")
    elif classes:
        low, high = min(classes["alignment"]), max(classes["alignment"])
        lines.append(
            f"Gauss-Newton: {classes['outliers']} of the {len(classes['eigenvalues'])} largest "
            f"eigenvalues stand clear of the bulk within classes, which ends at "
            f"{classes['bulk_edge']:.4g}; {classes['between_share']:.1%} of the trace lies "
            f"between classes; cosine of class-mean gradients with the leading span: "
            f"{low:.3f} to {high:.3f}"
        )
    return "\n".join(lines)
