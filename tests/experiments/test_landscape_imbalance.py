import pandas as pd

from experiments import landscape_imbalance


def test_the_minority_merges_at_the_exact_ratio_and_cross_entropy_approaches_seli(tmp_path):
    run = tmp_path / "run"
    landscape_imbalance.main("smoke", run)
    config = landscape_imbalance.PRESETS["smoke"]
    found = pd.read_csv(run / "thresholds.csv").set_index("loss")
    assert (found["certified global minimisers"] == found["points"]).all()
    assert (found["all points certified in"] == found["bisections"]).all()
    assert (found["points on the wrong side of R*"] == 0).all()
    resolution = landscape_imbalance.WIDEST ** (0.5**config.bisections) - 1
    assert (found["largest error of a bisected R*"] < resolution).all()
    distances = pd.read_csv(run / "seli.csv").set_index("loss").filter(like="lambda 1e")
    assert distances.shape == (2, 6)
    entropy, mse = distances.loc["cross_entropy"], distances.loc["mse"]
    assert entropy["classifier, lambda 1e-07"] < 0.3 * entropy["classifier, lambda 1e-03"]
    assert mse["classifier, lambda 1e-07"] > 0.3
    for figure in ("minority_collapse", "seli"):
        assert (run / "figures" / f"{figure}.png").stat().st_size > 10_000


def test_a_finished_run_is_read_and_not_solved_again(tmp_path, monkeypatch):
    run = tmp_path / "run"
    config = landscape_imbalance.Config(
        losses=("cross_entropy",),
        num_classes=4,
        samples=100,
        decays=(5e-3,),
        bias_decays=(1e-2,),
        ratios=3,
        bisections=1,
        vanishing=2,
        seli_ratios=(10.0,),
    )
    monkeypatch.setitem(landscape_imbalance.PRESETS, "smoke", config)
    landscape_imbalance.main("smoke", run)
    before = (run / "thresholds.csv").read_text()
    monkeypatch.setattr(landscape_imbalance, "solved", None)
    landscape_imbalance.main("smoke", run)
    assert (run / "thresholds.csv").read_text() == before
