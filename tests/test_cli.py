import json
from pathlib import Path

import numpy as np
import pytest

from ncjax import cli

TINY = "--num-classes 3 --feature-dim 4 --samples-per-class 2 --lambda-w 5e-3 --lambda-h 5e-3"


def test_help_names_every_command_and_what_it_does(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in ("landscape", "train", "measure", "certify", "collapse", "your own"):
        assert word in shown


def test_landscape_prints_a_table_and_says_where_its_files_are(capsys, tmp_path):
    cli.main(
        f"landscape {TINY} --losses mse --lambda-b 0 --starts 1 --run here --chunk 300".split()
    )
    shown = capsys.readouterr().out
    assert "saddles" in shown
    assert (tmp_path / "here" / "figures" / "critical_points.png").exists()
    assert len(list((tmp_path / "here" / "points").glob("*.parquet"))) == 1
    assert "here" in shown
    cli.main(["landscape", "--from", "here"])
    assert capsys.readouterr().out.splitlines()[0] in shown


def test_train_prints_metrics_and_draws_figures(capsys, tmp_path):
    cli.main(["train", "--epochs", "2", "--widths", "8", "--run", "there", "--loss", "focal"])
    assert "nc1_pinv" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "there" / "config.json").read_text())["config"]
    assert (recorded["loss"], recorded["widths"]) == ("focal", [8])
    assert (tmp_path / "there" / "figures" / "collapse_curves.png").exists()


def test_train_with_sop_says_when_it_switches_on_and_lists_suspicious_labels(capsys, tmp_path):
    command = "train --method sop --epochs 3 --widths 8 --run noisy --evaluators train sop"
    cli.main([*command.split(), "--corruption.labels", "symmetric", "--corruption.noise", "0.4"])
    shown = capsys.readouterr().out
    assert "v switches on after about 1.5 of 3 epochs" in shown
    assert "labels that look wrong" in shown
    assert (tmp_path / "noisy" / "figures" / "label_issues.png").exists()


def test_measure_prints_every_measure_and_writes_beside_the_file(capsys, tmp_path):
    labels = np.repeat(np.arange(3), 4)
    np.savez("net.npz", features=np.eye(3)[labels], labels=labels, W=np.eye(3))
    cli.main(["measure", "net.npz"])
    shown = capsys.readouterr().out
    for name in ("nc1_pinv", "nc2_classifier", "nc3_etf", "nc4_agreement"):
        assert name in shown
    assert (tmp_path / "net" / "collapse.json").exists()


def test_data_lists_what_there_is(capsys, tmp_path):
    cli.main(["data", "list", "--data-dir", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "digits" in shown
    assert "scikit-learn" in shown


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("measure nowhere.npz", "nowhere.npz, which does not exist"),
        ("landscape --losses cros_entropy", "Did you mean 'cross_entropy'"),
        ("landscape --lambda-w -1", "`lambda_w`: got -1"),
        ("landscape --run config.json/x --losses mse", "`run`"),
        ("train --loss focal --hyperparameters gama 2", "gama"),
        ("data prepare", "`name`"),
        ("data prepare fashion_mnits", "Did you mean 'fashion_mnist'"),
        ("train --dataset digit", "`dataset`: got 'digit'"),
        ("train --batch-size 5000 --run r", "`batch_size`: got 5000"),
    ],
)
def test_bad_input_ends_in_one_clear_paragraph_and_exit_code_two(command, message, capsys):
    Path("config.json").write_text("")
    with pytest.raises(SystemExit) as stop:
        cli.main(command.split())
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("ncjax: ")
    assert message in shown.replace("\n", " ")
    assert "Traceback" not in shown
