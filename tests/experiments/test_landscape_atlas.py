import pandas as pd

from experiments import landscape_atlas


def test_every_point_is_a_strict_saddle_or_a_minimum_and_the_laws_hold_within_a_rank(tmp_path):
    run = tmp_path / "atlas"
    landscape_atlas.main("smoke", run)
    verdicts = pd.read_csv(run / "verdicts.csv", index_col=0)
    known = verdicts[["strict saddles", "global minima"]].sum(axis=1)
    assert (known == verdicts["points"]).all()
    assert (verdicts["worst gap"] < 1e-9).all()
    assert (verdicts["different"] < verdicts["points"]).all()
    laws = pd.read_csv(run / "laws.csv").set_index("search")
    assert laws.loc["within a rank", "index above the law"] == 0
    assert laws.loc["any index", "index above the law"] > 0
    assert (laws["index out of its bounds"] == 0).all()
    assert (laws["eigenvalue below the escape value"] == 0).all()
    assert len(pd.read_csv(run / "exceptions.csv")) == 0
    for name in ("atlas", "index_law"):
        assert (run / "figures" / f"{name}.png").stat().st_size > 10_000
