import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import losses, ufm
from ncjax.checks import InputError


def true_logit(z, y):
    return jnp.take_along_axis(z, y[..., None], -1)


def hinge(z, y):
    return jnp.maximum(0, 1 - true_logit(z, y) + z).sum(-1) - 1


def favours_the_first_class(z, y):
    return losses.cross_entropy(z, y) + jnp.square(z[..., 0] - z.mean(-1))


def spreads_wrong_logits(z, y):
    """Lower where wrong logits differ."""
    wrong = jnp.where(jax.nn.one_hot(y, z.shape[-1], dtype=bool), jnp.nan, z)
    return losses.cross_entropy(z, y) - jnp.tanh(jnp.nanvar(wrong, axis=-1))


@pytest.mark.parametrize(
    ("loss", "num_classes", "hyperparameters"),
    [
        ("cross_entropy", 2, {}),
        ("cross_entropy", 1000, {}),
        ("label_smoothing", 10, {"smoothing": 0.1}),
        ("focal", 10, {"gamma": 3.0}),
        ("poly1", 50, {"epsilon": 1.0}),
        ("squared_hinge", 10, {}),
    ],
)
def test_losses_that_lead_to_an_etf_pass(loss, num_classes, hyperparameters):
    found = ufm.check_contrastive(loss, num_classes, hyperparameters)
    assert found.holds, str(found)


@pytest.mark.parametrize(
    ("loss", "num_classes", "hyperparameters", "failure"),
    [
        ("mse", 4, {}, "all logits rise together"),
        ("logit_norm", 4, {}, "all logits rise together"),
        ("poly1", 10, {"epsilon": 3.0}, "both 0 and 2.0"),
        (hinge, 4, {}, "penalty of 3 on the margin both 0 and 1 "),
        (favours_the_first_class, 4, {}, "all classes alike"),
        (spreads_wrong_logits, 4, {}, "lower at some unequal wrong logits"),
    ],
)
def test_losses_that_do_not_are_told_where_they_fail(loss, num_classes, hyperparameters, failure):
    found = ufm.check_contrastive(loss, num_classes, hyperparameters)
    assert not found.holds
    assert failure in str(found)


def test_focal_stops_being_contrastive_between_17_and_18_classes_at_gamma_3():
    # It is convex along equal wrong logits while p >= 0.057, and p = 1/K at a margin of zero.
    assert ufm.check_contrastive("focal", 17, {"gamma": 3.0}).holds
    assert not ufm.check_contrastive("focal", 18, {"gamma": 3.0}).holds


@pytest.mark.usefixtures("x64")
def test_at_the_reported_penalty_both_margins_are_equally_good_and_better_than_those_between():
    K = 100
    ((penalty, low, high),) = ufm.check_contrastive("focal", K, {"gamma": 3.0}).double_minima
    direction = np.eye(K)[0] - 1 / K
    margins = np.array([low, high, (low + high) / 2])
    values = losses.focal(margins[:, None] * direction[None, :], np.zeros(3, int), 3.0)
    penalised = np.asarray(values) + penalty * margins
    np.testing.assert_allclose(penalised[0], penalised[1], rtol=1e-6)
    assert penalised[2] > penalised[0] + 1e-3


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="`num_classes`.*at least 2"):
        ufm.check_contrastive("mse", 1)
    with pytest.raises(InputError, match="Did you mean 'focal'"):
        ufm.check_contrastive("fokal", 3)
