"""Where measurements go besides `metrics.jsonl`: a CSV file, TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncjax import checks, runs

Row = Mapping[str, Any]
Write = Callable[[Row], None]
"""Takes a row of `metrics.jsonl`, once it is there."""


def to_csv(run: Path) -> Write:
    """Keeps `metrics.csv` equal to `metrics.jsonl`."""

    def write(_: Row) -> None:
        runs.write_atomically(run / "metrics.csv", runs.read_metrics(run).to_csv(index=False))

    return write


def to_tensorboard(run: Path) -> Write:
    """Scalars under `tensorboard/`, a folder for each member of an ensemble.

    Raises:
        InputError: the extra `tensorboard` is not installed.
    """
    try:
        import tensorboardX
    except ImportError as error:
        remedy = "Install it with `pip install 'ncjax[tensorboard]'`."
        raise checks.reject("writers", "'tensorboard', not installed", "there", remedy) from error
    opened: dict[int, tensorboardX.SummaryWriter] = {}

    def write(row: Row) -> None:
        member, epoch = row.get("member", 0), row["epoch"]
        if member not in opened:
            folder = str(run / "tensorboard" / f"{member:02d}")
            opened[member] = tensorboardX.SummaryWriter(folder, purge_step=epoch)
        for name, value in row.items():
            if isinstance(value, float):
                opened[member].add_scalar(name, value, epoch)
        opened[member].flush()

    return write


WRITERS: dict[str, Callable[[Path], Write]] = {"csv": to_csv, "tensorboard": to_tensorboard}


def writers_of(names: Sequence[str], run: Path) -> list[Write]:
    """The writers of those names.

    Raises:
        InputError: there is none of a name, or what it needs is not installed.
    """
    for name in names:
        checks.check_choice("writers", name, WRITERS)
    return [WRITERS[name](run) for name in names]
