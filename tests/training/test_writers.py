import sys
import types

import pandas as pd
import pytest

from ncjax import runs
from ncjax.checks import InputError
from ncjax.training.writers import writers_of

ROWS = [{"epoch": 1, "loss": 2.0, "nc1": None}, {"epoch": 2, "loss": 1.0, "nc1": 0.5}]


def write_all(names, run):
    writers = writers_of(names, run)
    for row in ROWS:
        runs.append_row(run / "metrics.jsonl", row)
        for write in writers:
            write(row)


def test_csv_is_the_table_of_the_lines(tmp_path):
    write_all(["csv"], tmp_path)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "metrics.csv"), runs.read_metrics(tmp_path)
    )


def test_tensorboard_gets_every_number_that_exists(tmp_path, monkeypatch):
    seen = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            seen.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            seen.append((name, value, step))

        def flush(self):
            pass

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    write_all(["tensorboard"], tmp_path)
    assert seen == [
        (str(tmp_path / "tensorboard" / "00"), 1),
        ("loss", 2.0, 1),
        ("loss", 1.0, 2),
        ("nc1", 0.5, 2),
    ]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"pip install 'ncjax\[tensorboard\]'"):
        writers_of(["tensorboard"], tmp_path)
    with pytest.raises(InputError, match="Did you mean 'csv'"):
        writers_of(["cvs"], tmp_path)
