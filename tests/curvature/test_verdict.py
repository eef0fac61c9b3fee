from ncjax.curvature import Verdict


def test_every_verdict_has_a_label_and_says_what_it_means():
    assert len({v.label for v in Verdict}) == len(Verdict)
    for verdict in Verdict:
        assert verdict.explanation.endswith(".")
    assert "not prove" in Verdict.NO_NEGATIVE_CURVATURE_FOUND.explanation
    assert "not a proof" in Verdict.SYMMETRIC_MINIMUM.explanation
