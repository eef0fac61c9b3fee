import dataclasses

import jax
import numpy as np
import pytest

from ncjax import losses
from ncjax.checks import InputError
from ncjax.training import TrainConfig, members

RUNS = [
    TrainConfig(),
    TrainConfig(loss="focal", hyperparameters={"gamma": 1.0}, seed=3),
    TrainConfig(loss="focal", learning_rate=0.2),
]


def test_each_member_has_its_own_loss_and_hyperparameters():
    names = members.loss_names(RUNS)
    assert names == ("cross_entropy", "focal")
    own = [members.member_of(run, RUNS) for run in RUNS]
    logits = jax.random.normal(jax.random.key(0), (5, 3))
    labels = np.arange(5) % 3
    stacked = members.stacked(own)
    found = jax.vmap(lambda member: members.loss_of(member, names)(logits, labels))(stacked)
    for values, run in zip(found, RUNS, strict=True):
        expected = losses.get(run.loss, **run.hyperparameters)(logits, labels)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(stacked.learning_rate, [0.05, 0.05, 0.2])
    assert list(stacked.seed) == [0, 3, 0]


def test_runs_that_differ_in_more_are_refused():
    other = dataclasses.replace(RUNS[0], epochs=7, widths=(3,))
    with pytest.raises(InputError, match=r"`configs`.*\['widths', 'epochs'\].*alike but for loss"):
        members.check_ensemble([*RUNS, other])
    with pytest.raises(InputError, match="`configs`.*none"):
        members.check_ensemble([])
