"""One short training run for all tests that look at a trained network."""

from pathlib import Path

import pandas as pd
import pytest

from ncjax.training import TrainConfig, train

CONFIG = TrainConfig(
    widths=(64, 64), epochs=40, batch_size=120, measure_every=10, checkpoint_every=7
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("runs") / "trained"
    return folder, train(CONFIG, folder, show_progress=False)
