import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.training import train
from tests.plugin import CACHE, ROOT
from tests.training.conftest import CONFIG


def test_the_digits_are_learned_and_collapse(trained):
    folder, table = trained
    first, last = table.iloc[0], table.iloc[-1]
    assert list(table["epoch"]) == [1, 2, 4, 8, 10, 20, 30, 40]
    assert last["accuracy"] > 0.999
    assert last["test_accuracy"] > 0.95
    for name in ("nc1_pinv", "nc2_means", "nc2_classifier", "nc3_self_duality", "nc3_etf"):
        assert last[name] < 0.7 * first[name], name
    assert last["nc4_agreement"] > 0.999
    arrays = np.load(folder / "collapse.npz")
    assert arrays["means"].shape == arrays["W"].shape == (10, 64)
    assert arrays["counts"].sum() == 1437


def test_a_finished_run_is_read_not_trained_again(trained):
    folder, table = trained
    before = (folder / "metrics.jsonl").read_bytes()
    again = train(CONFIG, folder, show_progress=False)
    assert again.equals(table)
    assert (folder / "metrics.jsonl").read_bytes() == before


SCRIPT = """
import sys
from ncjax.training import train
from tests.training.conftest import CONFIG
train(CONFIG, sys.argv[1], show_progress=False)
"""


def test_a_run_killed_twice_ends_bit_for_bit_like_one_that_was_not(trained, tmp_path):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": CACHE}
    whole, _ = trained
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed")]
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for rows in (3, 6):
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        deadline = time.monotonic() + 120
        while not metrics.exists() or metrics.read_text().count("\n") < rows:
            assert time.monotonic() < deadline
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    assert metrics.read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = np.load(tmp_path / "killed" / "collapse.npz"), np.load(whole / "collapse.npz")
    for name in theirs.files:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_another_config_in_the_same_folder_is_refused(trained):
    with pytest.raises(InputError, match="epochs: 40 -> 41"):
        train(dataclasses.replace(CONFIG, epochs=41), trained[0])


def test_divergence_is_reported_with_the_learning_rate(tmp_path):
    config = dataclasses.replace(CONFIG, loss="mse", learning_rate=1e6, weight_decay=1.0)
    with pytest.raises(InputError, match="`learning_rate`: got 1e.06.*not finite at epoch"):
        train(config, tmp_path / "run", show_progress=False)


def test_a_dataset_of_ones_own_without_a_test_set_is_trained(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.normal(size=(40, 3)) + 3 * labels[:, None]
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    config = dataclasses.replace(
        CONFIG, dataset=str(tmp_path / "own.npz"), batch_size=20, epochs=20, widths=(8,)
    )
    table = train(config, tmp_path / "run", show_progress=False)
    assert "test_accuracy" not in table
    assert table["accuracy"].iloc[-1] > 0.9
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["seed"] == 0
