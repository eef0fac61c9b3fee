import json

import pytest

from ncjax import runs
from ncjax.checks import InputError


def test_a_run_folder_records_config_and_environment_once(tmp_path):
    folder = runs.open_run(tmp_path / "a" / "b", {"x": (1, 2)})
    before = (folder / "config.json").read_text()
    recorded = json.loads(before)
    assert recorded["config"] == {"x": [1, 2]}
    assert {"versions", "device", "git_revision", "started"} <= recorded["environment"].keys()
    assert "jax" in recorded["environment"]["versions"]
    runs.open_run(folder, {"x": (1, 2)})
    assert (folder / "config.json").read_text() == before


def test_a_changed_config_is_refused_with_what_changed(tmp_path):
    runs.open_run(tmp_path / "run", {"seed": 0, "epochs": 3})
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        runs.open_run(tmp_path / "run", {"seed": 1, "epochs": 3})


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="`run`.*writable folder"):
        runs.open_run(tmp_path / "file" / "run", {})


def test_a_line_cut_short_by_a_kill_is_left_out_and_later_rows_can_be_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for epoch in (1, 2, 3):
        runs.append_row(path, {"epoch": epoch})
    with path.open("a") as file:
        file.write('{"epoch": 4, "lo')
    assert [row["epoch"] for row in runs.read_rows(path)] == [1, 2, 3]
    runs.keep_rows(path, lambda row: row["epoch"] <= 2)
    assert path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    def fails(path):
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        runs.write_atomically(tmp_path / "out.txt", fails)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"se')
    with pytest.raises(InputError, match="config.json, which is damaged"):
        runs.open_run(tmp_path, {"seed": 0})
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl.*line 2"):
        runs.read_metrics(tmp_path)


def test_metrics_of_a_folder_without_any_are_refused(tmp_path):
    with pytest.raises(InputError, match="training run"):
        runs.read_metrics(tmp_path)
