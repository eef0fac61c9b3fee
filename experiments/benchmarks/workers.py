"""Measurements in processes of their own, each held to some cores."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import tyro


def in_process(module: str, cores: int, kind: str, *arguments: object) -> Any:
    """What one of a benchmark's measurements gives, in a new process on that many cores.

    Args:
        module: the benchmark's name, whose `run` is called with its measurements.
        cores: the first so many.
        kind: which measurement.
        arguments: of it, given as strings.
    """
    threads = {key: str(cores) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", module, "--worker", str(cores), kind, *map(str, arguments)],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run(main: Callable, kinds: Mapping[str, Callable]) -> None:
    """The command line of a benchmark, or, in one of its processes, one measurement."""
    if sys.argv[1:2] != ["--worker"]:
        tyro.cli(main)
        return
    cores, kind, *arguments = sys.argv[2:]
    os.sched_setaffinity(0, cores_held(int(cores)))
    print(json.dumps(kinds[kind](*arguments)))


def cores_held(count: int | None = None) -> list[int]:
    """Of the cores that this process may use, the first so many."""
    return sorted(os.sched_getaffinity(0))[:count]


def peak() -> float:
    """Of this process's memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
