import json
import shutil

import numpy as np
import pytest

from ncjax import training
from ncjax.checks import InputError


def test_a_run_comes_back_with_the_numbers_it_recorded(trained):
    folder, table = trained
    found = training.load_run(folder)
    images, labels = found.dataset.images, found.dataset.labels
    values = found.example_loss(found.variables["params"], images, labels)
    np.testing.assert_allclose(values.mean(), table.iloc[-1]["loss"], rtol=1e-5)
    assert found.epoch == table.iloc[-1]["epoch"]


def test_what_is_no_run_is_refused(tmp_path, trained):
    with pytest.raises(InputError, match="`run`.*the folder of a training run"):
        training.load_run(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="`run`.*without a checkpoint"):
        training.load_run(copy)
    config = json.loads((copy / "config.json").read_text())
    config["config"]["data"] = "0" * 16
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="`dataset`.*no longer"):
        training.load_run(copy)
