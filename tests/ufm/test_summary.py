import math

import pandas as pd
import pytest

from ncjax import ufm

COLUMNS = ["loss", "verdict", "objective", "theory_value", "gap", "negative", "escape_dimension"]
COLUMNS += ["below_escape", "escape_value", "smallest_eigenvalue"]
TABLE = pd.DataFrame(
    [
        ("mse", "global_minimizer", 0.5, 0.5, 1e-12, 0, 0, 0, math.nan, 0.0),
        ("mse", "global_minimizer", 0.6, 0.5, 3e-9, 0, 0, 0, math.nan, 0.0),
        ("mse", "strict_saddle", 0.9, 0.5, 0.4, 6, 6, 0, -0.1, -0.1),
        ("mse", "strict_saddle", 0.8, 0.5, 0.3, 7, 6, 0, -0.1, -0.1),  # off the index law
        ("mse", "strict_saddle", 0.8, 0.5, 0.3, 8, 6, 2, -0.1, -0.2),  # and below the escape value
        ("mse", "inconclusive", 0.7, 0.5, 0.2, 1, 0, 3, -0.1, -0.3),
        ("focal", "symmetric_minimum", 0.2, 0.3, math.nan, 0, 0, 0, math.nan, 0.0),
        ("focal", "strict_saddle", 0.4, 0.3, math.nan, 2, 2, 0, -0.4, -0.4),
    ],
    columns=COLUMNS,
)


def test_it_counts_verdicts_and_exceptions_and_takes_the_worst_numbers_a_loss():
    summary = ufm.summarize(TABLE).set_index("loss")
    assert list(summary.index) == ["mse", "focal"]
    mse, focal = summary.loc["mse"], summary.loc["focal"]
    assert [mse[n] for n in ("points", "saddles", "minima", "other")] == [6, 3, 2, 1]
    assert [focal[n] for n in ("points", "saddles", "minima", "other")] == [2, 1, 1, 0]
    assert (mse["index exceptions"], mse["escape exceptions"]) == (2, 1)
    assert (focal["index exceptions"], focal["escape exceptions"]) == (0, 0)
    assert mse["worst gap"] == 3e-9
    assert math.isnan(focal["worst gap"])
    assert mse["f vs theory"] == pytest.approx(0.1)
    assert focal["f vs theory"] == pytest.approx(0.1)
    assert mse["escape law error"] == pytest.approx(0.5)
    assert focal["escape law error"] == 0


def test_without_dense_matrices_there_is_no_error_of_the_escape_law():
    summary = ufm.summarize(TABLE.drop(columns="smallest_eigenvalue"))
    assert "escape law error" not in summary
    assert list(summary["saddles"]) == [3, 1]
