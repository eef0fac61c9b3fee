"""Tables that experiments keep between runs and print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ncjax import runs


def kept(path: Path, work: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table that was written before, else made now and written.

    Args:
        path: of the CSV file.
        work: makes the table.
    """
    if not path.exists():
        runs.write_atomically(path, work().to_csv(index=False))
    return pd.read_csv(path)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, its index as the first column, numbers to three digits.

    Args:
        table: any; what is missing is shown as "-".
    """

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "-" if pd.isna(value) else f"{value:.3g}"
        return str(value)

    head = ["", *map(str, table.columns)]
    lines = [head, ["---"] * len(head)]
    lines += [
        [str(name), *map(cell, row)]
        for name, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
