import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from ncjax import data, runs
from ncjax.checks import InputError
from ncjax.data import Corruption
from ncjax.training import ISSUES, Engine, load_run, train, train_ensemble
from tests.plugin import ROOT
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


def test_a_finished_run_is_read_not_trained_again(trained, monkeypatch):
    folder, table = trained
    monkeypatch.delattr(Engine, "initial")
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
    whole, _ = trained
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed")]
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for rows in (3, 6):
        process = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + 120
        while not metrics.exists() or metrics.read_text().count("\n") < rows:
            assert time.monotonic() < deadline
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=ROOT, check=True)
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


def test_an_ensemble_gives_each_member_what_it_gets_alone(tmp_path):
    short = dataclasses.replace(
        CONFIG, epochs=6, widths=(16,), measure_every=3, evaluators=("train",)
    )
    configs = [
        dataclasses.replace(short, loss="mse", seed=1),
        dataclasses.replace(short, loss="focal", hyperparameters={"gamma": 2.0}, weight_decay=1e-4),
    ]
    table = train_ensemble(configs, tmp_path / "all", show_progress=False)
    assert list(table["loss_name"].iloc[:2]) == ["mse", "focal"]
    for number, config in enumerate(configs):
        alone = train(config, tmp_path / str(number), show_progress=False)
        mine = table[table["member"] == number].reset_index(drop=True)
        for name in alone:
            np.testing.assert_allclose(mine[name], alone[name], rtol=1e-2, atol=2e-3, err_msg=name)
        found = load_run(tmp_path / "all", member=number)
        values = found.example_loss(
            found.variables["params"], found.dataset.images, found.dataset.labels
        )
        np.testing.assert_allclose(values.mean(), mine["loss"].iloc[-1], rtol=1e-4)
    assert np.load(tmp_path / "all" / "collapse.npz")["means"].shape == (2, 10, 16)
    again = train_ensemble(configs, tmp_path / "all", show_progress=False)
    assert again.equals(table)


CONVOLUTIONAL = """
import dataclasses, sys
from ncjax.data import Corruption
from ncjax.training import train
from tests.training.conftest import CONFIG
config = dataclasses.replace(
    CONFIG, network="cnn", width=4, feature_dim=8, augment="crop_flip", batch_size=20, epochs=12,
    corruption=Corruption("symmetric", noise=0.2, per_class=10), measure_every=1, snapshots=True,
    checkpoint_every=1, evaluators=("train",),
)
if __name__ == "__main__":
    train(config, sys.argv[1], show_progress=False)
"""


def test_an_interrupted_run_saves_and_goes_on_bit_for_bit_even_from_a_damaged_checkpoint(tmp_path):

    def start(name):
        command = [sys.executable, "-c", CONVOLUTIONAL, str(tmp_path / name)]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)

    stopped, whole = start("stopped"), start("whole")
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    stopped.send_signal(signal.SIGTERM)
    assert b"saved after step" in stopped.communicate()[1]
    assert stopped.returncode != 0
    # The last checkpoint is cut short, as by a full disk: the one before serves.
    checkpoints = (tmp_path / "stopped" / "checkpoints").iterdir()
    last = max(checkpoints, key=lambda path: int(path.name))
    for file in last.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    resumed = start("stopped")
    assert b"damaged" in resumed.communicate()[1]
    assert resumed.returncode == 0
    whole.communicate()
    assert metrics.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    snapshot = load_run(tmp_path / "whole", snapshot=2)
    assert snapshot.epoch == 2
    row = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[1])
    values = snapshot.example_loss(
        snapshot.variables["params"], snapshot.dataset.images, snapshot.dataset.labels
    )
    np.testing.assert_allclose(values.mean(), row["loss"], rtol=1e-4)
    table = runs.read_metrics(tmp_path / "whole")
    assert (table["clean_accuracy"] != table["accuracy"]).any()


def test_sop_lists_suspicious_labels_by_their_numbers_in_the_whole_set(tmp_path):
    noisy = Corruption("symmetric_others", noise=0.3, per_class=60)
    config = dataclasses.replace(
        CONFIG, method="sop", corruption=noisy, epochs=12, batch_size=60, evaluators=("train",)
    )
    train(config, tmp_path / "run", show_progress=False)
    issues = pd.read_csv(tmp_path / "run" / ISSUES)
    whole = data.load("digits").corrupt(dataclasses.replace(noisy, per_class=None))
    np.testing.assert_array_equal(whole.labels[issues["sample"]], issues["given"])
    wrong = (whole.labels != whole.clean_labels)[issues["sample"]]
    assert wrong[:50].mean() > 0.9 > 0.2 > wrong[-300:].mean()
    found = issues[issues["wrong"]]
    assert (found["suggested"] == whole.clean_labels[found["sample"]]).mean() > 0.6
