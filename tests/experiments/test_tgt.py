"""The experiments with teacher-guided training, at their smallest preset."""

import pandas as pd
import pytest

from experiments import tgt_longtail, tgt_networks


@pytest.mark.usefixtures("no_type_checks")
def test_arms_train_on_a_long_tail_and_end_with_tables_and_figures(tmp_path, capsys, monkeypatch):
    some = ("one-hot", "KD", "TGT random", "TGT gradient")
    arms = {arm: tgt_networks.ARMS[arm][:1] for arm in some}
    for module in (tgt_longtail, tgt_networks):
        monkeypatch.setattr(module, "ARMS", arms)
    tgt_longtail.main("smoke", tmp_path / "run")
    printed = capsys.readouterr().out
    assert all(arm in printed for arm in some)
    for file in ("tgt_longtail.png", "digits/chosen.md", "digits/figures/tgt_path.png"):
        assert (tmp_path / "run" / file).exists()


def test_settings_are_chosen_by_validation_not_by_test():
    rows = [("KD", 0, 0.5, 0.9), ("KD", 1, 0.6, 0.1), ("one-hot", 0, 0.4, 0.4)]
    table = pd.DataFrame(rows, columns=["arm", "setting", "validation_accuracy", "test_accuracy"])
    picked = tgt_networks.chosen(table.assign(seed=0))
    assert list(picked["arm"]) == ["one-hot", "KD"]
    assert list(picked["setting"]) == [0, 1]


def test_differences_are_between_the_same_seeds():
    rows = [("KD", s, 0.5 + 0.1 * s) for s in range(3)]
    rows += [("TGT", s, 0.6 + 0.1 * s + 0.01 * (s - 1)) for s in range(3)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "accuracy"])
    found = tgt_networks.paired(table, ["accuracy"], "KD").loc["TGT"]
    assert found["accuracy, difference"] == pytest.approx(0.1)
    assert found["accuracy, in standard errors"] == pytest.approx(0.1 / (0.01 / 3**0.5))
