"""Saving and loading estimators: arrays by Orbax, settings as JSON, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ncjax import checks, runs

_SETTINGS = "settings.json"


def save(folder: Path | str, kind: str, settings: dict[str, Any], arrays: Any) -> None:
    """Writes a folder; its settings come last, so that what can be loaded is whole.

    Args:
        folder: a new one.
        kind: of what is saved.
        settings: what JSON holds, or NumPy's numbers and arrays.
        arrays: nested dictionaries of arrays.

    Raises:
        InputError: the folder is there already, or can't be written.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise checks.reject("folder", folder, "a new folder", "Name another, or delete it.")
    content = json.dumps(
        {"kind": kind, "settings": settings}, indent=2, default=lambda value: value.tolist()
    )
    try:
        folder.mkdir(parents=True)  # before Orbax, which would wait for minutes
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "arrays", jax.tree.map(np.asarray, arrays))
        runs.write_atomically(folder / _SETTINGS, content + "\n")
    except OSError as error:
        raise checks.reject("folder", f"{folder} ({error})", "a writable folder") from error


def load(folder: Path | str) -> tuple[str, dict[str, Any], Any]:
    """The kind, settings and arrays of a saved folder.

    Raises:
        InputError: nothing was saved there, or not to the end.
    """
    folder = Path(folder).absolute()
    try:
        found = json.loads((folder / _SETTINGS).read_text())
        with ocp.StandardCheckpointer() as checkpointer:
            arrays = checkpointer.restore(folder / "arrays")
    except (OSError, ValueError) as error:
        accepted = "the folder of a saved network, whole"
        raise checks.reject("folder", f"{folder} ({error})", accepted) from error
    return found["kind"], found["settings"], arrays
