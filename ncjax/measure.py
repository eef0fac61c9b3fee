"""Collapse measured in features from anywhere: arrays in, a table, JSON and a figure out."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np

from ncjax import checks, data, metrics, plots, runs


def measure_file(file: Path, out: Path, *, center_W: bool = True) -> dict[str, float | None]:
    """Measures the features in an `.npz` file and writes what was found.

    Args:
        file: with arrays `features` `[N, d]`, `labels` `[N]` and, optionally, `W` `[K, d]` (the
            layout of `torch.nn.Linear.weight`) and `b` `[K]`.
        out: folder for `collapse.json` and `collapse.png`.
        center_W: as in `ncjax.metrics.collapse`.

    Returns:
        Every measure by name, as a float; None where it is undefined.

    Raises:
        InputError: the file or its arrays are unfit.
    """
    arrays = data.read_npz(file, ("features", "labels"), ("W", "b"))
    features, labels, W, b = (arrays.get(name) for name in ("features", "labels", "W", "b"))
    checks.check_shape("features", features, (None, None), "[N, d]")
    if not np.issubdtype(features.dtype, np.floating):
        raise checks.reject("features", f"dtype {features.dtype}", "floating point")
    if W is not None:
        checks.check_shape("W", W, (None, features.shape[1]), "[K, d]")
    num_classes = data.count_classes(labels) if W is None else len(W)
    with jax.enable_x64(True):
        moments = metrics.class_moments(features.astype(np.float64), labels, num_classes)
        measured = metrics.collapse(moments, W, b, center_W=center_W)
        row = dict(measured.as_dict())
        margins = None
        if W is not None:
            samples = metrics.sample_geometry(
                features.astype(np.float64), labels, moments, W, b, center_W=center_W
            )
            margins = np.asarray(samples.cosine_margin)
            row |= {
                "nc4_agreement": samples.nc4_agreement,
                "accuracy": (np.asarray(samples.predicted) == labels).mean(),
                "cosine_margin": margins.mean(),
            }
        means = np.asarray(moments.means)
    numbers = {n: float(v) if np.isfinite(v) else None for n, v in row.items()}
    text = json.dumps({"file": str(file), "center_W": center_W, "measures": numbers}, indent=2)
    try:
        runs.write_atomically(out / "collapse.json", text + "\n")
        figure = out / "collapse.png"
        runs.write_atomically(figure, lambda path: plots.measurement(means, W, margins, path))
    except OSError as error:
        raise checks.reject("out", f"{out} ({error})", "a writable folder") from error
    return numbers
