"""What a sweep found, in a few numbers a loss."""

from __future__ import annotations

import pandas as pd

MINIMA = ("global_minimizer", "symmetric_minimum")
LOCAL = "local_minimum"


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """What a sweep found, one row a loss.

    Args:
        table: from `landscape`.

    Returns:
        Per loss: `points`, by verdict `saddles`, `minima` (global or symmetric), `local minima`
        (whose place among the others is open), `other`; over the minima the `worst gap`
        to the rigorous bound and the largest `f vs theory`, |f - theory|; over the saddles `index
        exceptions`, those whose exact Morse index is not the one of the escape law, and `escape
        exceptions`, those with an eigenvalue below the escape value; and where dense matrices
        were taken too, the largest relative `escape law error` against their smallest eigenvalue.
    """
    rows = []
    for loss, points in table.groupby("loss", sort=False):
        minima = points[points["verdict"].isin(MINIMA)]
        saddles = points[points["verdict"] == "strict_saddle"]
        local = int((points["verdict"] == LOCAL).sum())
        row = {
            "loss": loss,
            "points": len(points),
            "saddles": len(saddles),
            "minima": len(minima),
            "local minima": local,
            "other": len(points) - len(saddles) - len(minima) - local,
            "worst gap": minima["gap"].max(),
            "f vs theory": (minima["objective"] - minima["theory_value"]).abs().max(),
            "index exceptions": int((saddles["negative"] != saddles["escape_dimension"]).sum()),
            "escape exceptions": int((saddles["below_escape"] > 0).sum()),
        }
        if "smallest_eigenvalue" in points:
            escape, dense = saddles["escape_value"], saddles["smallest_eigenvalue"]
            row["escape law error"] = ((escape - dense) / dense).abs().max()
        rows.append(row)
    return pd.DataFrame(rows)
