"""Fixtures that several tests share."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jaxtyping
import pytest

from tests.plugin import ROOT


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs() -> Iterator[None]:
    """Compiled programs pile up: workers that kept them all grew to 5 GB, and some crashed."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """The library as users have it: its own checks of input, without jaxtyping's before them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths of the command line land in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def on_devices() -> Callable[..., str]:
    """Runs a script on several fake CPU devices, in a process of its own."""

    def run(script: str, devices: int = 4) -> str:
        environment = os.environ | {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
            f"--xla_force_host_platform_device_count={devices}",
            "NPROC": "16",  # without it, collectives on fake devices can starve each other
            "JAX_NUMPY_DTYPE_PROMOTION": "strict",
            "JAX_NUMPY_RANK_PROMOTION": "raise",
        }
        command = [sys.executable, "-W", "error", "-c", script]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
