import pandas as pd
import pytest

from experiments import tables


def test_a_kept_table_is_made_once(tmp_path):
    made = pd.DataFrame({"x": [1.0, 2.5]})
    first = tables.kept(tmp_path / "deep" / "x.csv", lambda: made)
    second = tables.kept(tmp_path / "deep" / "x.csv", lambda: pytest.fail("made again"))
    pd.testing.assert_frame_equal(first, second)


def test_markdown_shows_index_numbers_and_what_is_missing():
    table = pd.DataFrame({"a": [0.12345, None], "b": [3, 4]}, index=["x", "y"])
    assert tables.markdown(table).splitlines() == [
        "|  | a | b |",
        "| --- | --- | --- |",
        "| x | 0.123 | 3 |",
        "| y | - | 4 |",
    ]
