"""Sweeps in real processes: shared by two, and killed."""

import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from ncjax import ufm
from tests.plugin import ROOT

GRID = ufm.Grid(
    losses=("mse",),
    num_classes=(3,),
    feature_dim=(4,),
    samples_per_class=(2,),
    lambda_b=(0.0,),
    starts=5,
)
SCRIPT = f"""
import sys
import jax
jax.config.update("jax_enable_x64", True)
folder, process, port = sys.argv[1:]
if port != "alone":
    jax.distributed.initialize(f"127.0.0.1:{{port}}", 2, int(process))
from ncjax import ufm
grid = ufm.{GRID!r}
ufm.landscape(grid, folder, chunk=4, show_progress=False)
"""


def start(folder: Path, process: int = 0, port: str = "alone") -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(process), port]
    return subprocess.Popen(command, cwd=ROOT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert start(folder).wait(timeout=200) == 0
    return ufm.read_landscape(folder)


def test_two_processes_make_the_table_of_one(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [start(tmp_path / "run", i, port) for i in range(2)]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    pd.testing.assert_frame_equal(ufm.read_landscape(tmp_path / "run"), whole)


def test_a_sweep_killed_twice_loses_and_doubles_no_row(whole, tmp_path):
    parts = tmp_path / "run" / "points"
    goals = sorted(random.Random(0).sample(range(1, 14), 2))
    for goal in goals:
        process = start(tmp_path / "run")
        while len(list(parts.glob("[0-9]*.parquet"))) < goal:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(parts.glob("[0-9]*.parquet"))) < 15
    assert start(tmp_path / "run").wait(timeout=200) == 0
    table = ufm.read_landscape(tmp_path / "run")
    pd.testing.assert_frame_equal(table, whole)
    assert len(table) == 4 * 3 * 5
    assert not table.duplicated(["lambda_w", "lambda_h", "requested_rank", "start"]).any()
