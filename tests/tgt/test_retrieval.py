import jax
import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from ncjax import tgt
from ncjax.checks import InputError

rng = np.random.default_rng(0)
scores = rng.normal(size=(40, 12)).astype(np.float32)
right = rng.integers(0, 12, 40)


def test_the_right_passage_is_on_the_diagonal():
    square = scores[:12]
    expected = -np.diag(np.asarray(jax.nn.log_softmax(square)))
    np.testing.assert_allclose(tgt.contrastive(square), expected, rtol=1e-5)
    more = tgt.contrastive(scores[:5])
    assert more.shape == (5,)


def test_metrics_are_those_of_scikit_learn():
    found = tgt.retrieval_metrics(tgt.ranks(scores, right), (1, 3))
    for k in (1, 3):
        expected = top_k_accuracy_score(right, scores, k=k, labels=np.arange(12))
        assert found[f"recall_{k}"] == pytest.approx(expected)
    one_hot = np.eye(12)[right]
    mean = label_ranking_average_precision_score(one_hot, scores)
    assert found["mrr"] == pytest.approx(mean, rel=1e-5)


def test_a_passage_that_ties_with_others_gains_nothing():
    assert tgt.ranks(np.zeros((1, 7), np.float32), np.array([0]))[0] == 7


@pytest.mark.parametrize("arguments", [(np.array([], int),), (np.array([1]), (0,))])
def test_nothing_to_measure_is_refused(arguments):
    with pytest.raises(InputError, match="at least 1"):
        tgt.retrieval_metrics(*arguments)
