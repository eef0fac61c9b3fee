from ncjax import progress


def test_a_bar_passes_items_through_and_can_be_silent(capsys):
    assert list(progress.bar([1, 2], show=False, desc="quiet")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert list(progress.bar([1, 2], desc="loud")) == [1, 2]
    assert "loud" in capsys.readouterr().err
