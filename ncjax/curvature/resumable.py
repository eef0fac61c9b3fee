"""Long runs in pieces, kept on disk: the numbers of one program, and a kill costs little.

Each piece sets the operator up anew (one gradient) and makes a few products.
"""

from __future__ import annotations

import dataclasses
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncjax import checks, runs
from ncjax.curvature import lanczos
from ncjax.curvature.density import Quadrature, SpectralDensity
from ncjax.curvature.eigenpairs import (
    Eigenpairs,
    LanczosSettings,
    begin,
    check_symmetric,
    finish,
    lanczos_settings,
)
from ncjax.curvature.examine import Examination, evidence
from ncjax.curvature.program import Local, Located

_PIECE = 10
_SAVE_SECONDS = 20.0


def eigenpairs(
    located: Located,
    low: int,
    high: int,
    num_steps: int,
    key: jax.Array,
    path: Path,
    report: Callable[[int], object] = lambda _: None,
) -> tuple[Eigenpairs, Examination]:
    """Both ends of a spectrum and the verdict, from one Lanczos run in pieces.

    Args:
        located: the operator and the point.
        low: smallest eigenpairs, at least 1.
        high: largest eigenpairs.
        num_steps: products.
        key: typed random key.
        path: `.npz` file of the unfinished run, written every 20 seconds of work.
        report: told of products made, as `tqdm.update`.
    """
    settings = lanczos_settings(located, low + high, num_steps, 1, None)
    state = _begin(settings, key, located.size)
    state = _load(path, state) if path.exists() else state
    report(int(state.steps))
    saved = time.monotonic()
    while (left := settings.num_steps - int(state.steps)) > 0:
        count = min(_PIECE, left)
        state = jax.block_until_ready(located.run(_Advance(settings.block), state, count))
        report(count)
        if time.monotonic() - saved > _SAVE_SECONDS:
            _save(path, state)
            saved = time.monotonic()
    tol = float(jnp.finfo(located.dtype).eps) ** 0.5
    pairs, found, asymmetry = located.run(_Finish(settings, low, high), state, tol)
    check_symmetric(asymmetry, pairs.scale)
    return pairs, found


def density(
    located: Located,
    num_probes: int,
    num_steps: int,
    key: jax.Array,
    path: Path,
    report: Callable[[int], object] = lambda _: None,
) -> SpectralDensity | None:
    """A spectral density, one probe after the other, each kept once it is done.

    Args:
        located: the operator and the point.
        num_probes: random start vectors; None is returned for 0.
        num_steps: products for each.
        key: typed random key; the probes are those of `spectral_density`.
        path: JSON-lines file of the probes so far.
        report: told of products made, as `tqdm.update`.
    """
    settings = lanczos_settings(located, 1, num_steps, 1, None)
    if path.exists():
        runs.keep_rows(path, lambda _: True)  # without a line that a kill cut short
    rows = list(runs.read_rows(path))
    report(len(rows) * settings.num_steps)
    for number in range(len(rows), num_probes):
        quadrature = located.run(Quadrature(settings, 1), key, number)
        nodes, weights = (np.asarray(part[0]).tolist() for part in quadrature[:2])
        row = {"probe": number, "nodes": nodes, "weights": weights}
        path.parent.mkdir(parents=True, exist_ok=True)
        runs.append_row(path, row)
        rows.append(row)
        report(settings.num_steps)
    if not rows:
        return None
    nodes, weights = (
        jnp.asarray([row[name] for row in rows], located.dtype) for name in ("nodes", "weights")
    )
    return SpectralDensity(nodes, weights, located.size)


_begin = jax.jit(begin, static_argnums=(0, 2))


def _save(path: Path, state: lanczos.Krylov) -> None:
    arrays = {name: np.asarray(value) for name, value in vars(state).items() if name != "key"}
    runs.write_atomically(path, lambda draft: np.savez(draft, **arrays))


def _load(path: Path, fresh: lanczos.Krylov) -> lanczos.Krylov:
    """The state kept in a file, if it is of the same run as a fresh one.

    Raises:
        InputError: it is damaged, or of another run.
    """
    try:
        with np.load(path) as file:
            kept = {name: jnp.asarray(file[name]) for name in file.files}
        state = lanczos.Krylov(key=fresh.key, **kept)
        shapes = [[(x.shape, x.dtype) for x in jax.tree.leaves(s)] for s in (state, fresh)]
        if shapes[0] != shapes[1]:
            raise ValueError("of another run")
    except (OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        remedy = "Delete it to start this run afresh."
        raise checks.reject(str(path), str(error), "the unfinished run", remedy) from error
    return state


@dataclasses.dataclass(frozen=True)
class _Advance:
    block: int

    def __call__(self, local: Local, state: lanczos.Krylov, count: Any) -> lanczos.Krylov:
        return lanczos.advance(local.product, state, count, self.block)


@dataclasses.dataclass(frozen=True)
class _Finish:
    settings: LanczosSettings
    low: int
    high: int

    def __call__(self, local: Local, state: lanczos.Krylov, tol: Any) -> tuple:
        pairs, values, asymmetry = finish(local, state, self.settings, self.low, self.high, tol)
        return pairs, evidence(local, pairs, values), asymmetry
