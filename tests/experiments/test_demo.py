import dataclasses

from experiments import demo
from ncjax import training

SMALL_GRID = dataclasses.replace(
    demo.GRID,
    losses=("cross_entropy", "mse"),
    num_classes=(3,),
    feature_dim=(4,),
    samples_per_class=(2,),
    lambda_w=(5e-3,),
    lambda_h=(5e-3,),
    lambda_b=(0.1,),
    ranks=(0, 3),
    starts=1,
)
SMALL_CONFIG = training.TrainConfig(epochs=2, widths=(8,))


def test_the_demonstration_writes_a_summary_with_tables_and_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "GRID", SMALL_GRID)
    monkeypatch.setattr(demo, "CONFIG", SMALL_CONFIG)
    demo.main(tmp_path / "demo")
    summary = (tmp_path / "demo" / "summary.md").read_text()
    for loss in SMALL_GRID.losses:
        assert summary.count(f"| {loss} |") == 2
    for figure in ("critical_points", "collapse_curves", "class_means"):
        assert f"figures/{figure}.png" in summary
        assert (tmp_path / "demo" / "figures" / f"{figure}.png").exists()
    assert summary in capsys.readouterr().out
