"""Run folders: what was asked (config.json), what came (metrics.jsonl, Parquet parts), resumable.

Everything is written so that a kill at any moment leaves either the old state or the new one:
whole files by rename, lines by append with an unfinished last line ignored.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from ncjax import checks

_PACKAGES = ("ncjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def open_run(folder: Path | str, config: Any) -> Path:
    """Creates a run folder, or reopens the one of an interrupted run with the same config.

    Args:
        folder: the run's folder; parents are made.
        config: a dataclass or mapping that JSON can hold.

    Returns:
        The folder, holding `config.json`: the config, and versions, device, git revision and time
        of the first start.

    Raises:
        InputError: the folder can't be written, or holds a run with another config.
    """
    folder = Path(folder)
    asked = _plain(config)
    path = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomically(path, _to_json({"config": asked, "environment": environment()}))
    except OSError as error:
        remedy = "Choose a folder that you may write to."
        raise checks.reject("run", f"{folder} ({error})", "a writable folder", remedy) from error
    found = _read_config(path)
    if found != asked:
        keys = sorted({*found, *asked})
        changed = [k for k in keys if found.get(k) != asked.get(k)]
        shown = "; ".join(f"{k}: {found.get(k)!r} -> {asked.get(k)!r}" for k in changed)
        raise checks.reject(
            "run",
            f"{folder}, begun with another configuration ({shown})",
            "a new folder, or one of a run with the same configuration",
            "Name another folder, or delete this one to start afresh.",
        )
    return folder


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())["config"]
    except (json.JSONDecodeError, KeyError) as error:
        remedy = "Delete the folder to start afresh."
        raise checks.reject("run", f"{path}, which is damaged", "a config", remedy) from error


def environment() -> dict[str, Any]:
    """Versions, device and git revision, as recorded in `config.json`."""
    devices = jax.devices()
    return {
        "versions": {name: version_of(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "backend": devices[0].platform,
        "device": devices[0].device_kind,
        "device_count": len(devices),
        "git_revision": _git_revision(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed (as ncjax in a clone)."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_atomically(path: Path, content: str | Callable[[Path], object]) -> None:
    """Writes a file so that it is there whole or not at all.

    Args:
        path: the file.
        content: its text, or a function that writes a file at the path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft{path.suffix}")
    try:
        if callable(content):
            content(draft)
        else:
            draft.write_text(content)
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # the bytes are there before the name is
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one JSON object as a line, flushed to disk before returning."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file; a last line that a kill cut short is left out.

    Raises:
        InputError: another line is not JSON.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        if line.endswith("\n"):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                remedy = "Delete the folder to start afresh."
                raise checks.reject(str(path), f"line {number}", "JSON", remedy) from error


def keep_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites a JSON-lines file with the rows that `keep` accepts."""
    rows = [json.dumps(row) + "\n" for row in read_rows(path) if keep(row)]
    write_atomically(path, "".join(rows))


def read_metrics(folder: Path | str) -> pd.DataFrame:
    """The metrics of a training run, one row per measured epoch.

    Raises:
        InputError: the folder holds no `metrics.jsonl`.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        raise checks.reject(
            "run", str(folder), "the folder of a training run", "See `ncjax train`."
        )
    return pd.DataFrame(read_rows(path))


def _plain(config: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)
    return json.loads(json.dumps(fields, default=lambda value: value.tolist()))


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
