import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.sop import peers

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 3)).astype(np.float32)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def test_the_confusion_holds_the_shares_of_each_true_class():
    clean = np.arange(12) % 3
    given = np.where(np.arange(12) < 3, (clean + 1) % 3, clean)
    found = peers.confusion(clean, given, 3)
    np.testing.assert_allclose(found, [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]])
    with pytest.raises(InputError, match="`clean`"):
        peers.confusion(clean % 2, given, 3)
    with pytest.raises(InputError, match="`given`"):
        peers.confusion(clean, given + 1, 3)


def test_forward_correction_is_the_likelihood_of_the_labels_given():
    matrix = np.array([[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]], np.float32)
    labels = np.array([0, 1, 2, 0])
    found = peers.forward_corrected(LOGITS, labels, matrix)
    expected = -np.log((P @ matrix)[np.arange(4), labels])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_early_learning_rewards_agreement_with_earlier_predictions():
    targets = RNG.dirichlet(np.ones(3), 4).astype(np.float32)
    found = peers.early_learning_targets(targets, LOGITS, 0.7)
    np.testing.assert_allclose(found, 0.7 * targets + 0.3 * P, rtol=1e-5)
    found = peers.early_learning_penalty(LOGITS, targets)
    np.testing.assert_allclose(found, np.log(1 - (P * targets).sum(1)), rtol=1e-5)
