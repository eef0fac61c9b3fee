import jax
import numpy as np
import pytest

from ncjax import sop
from ncjax.checks import InputError
from ncjax.sop.noise import Noise, updated


@pytest.mark.parametrize(("lr_v", "batch_size"), [(10.0, 64), (100.0, 128), (3.0, 16)])
def test_v_of_a_sample_that_is_contradicted_is_at_one_when_the_rule_says(lr_v, batch_size):
    logits, label = 20 * np.eye(3, dtype=np.float32)[:1], np.array([2])
    noise = Noise(u=np.full((1, 1), 1e-8, np.float32), v=np.full((1, 3), 1e-8, np.float32))
    slope = jax.jit(jax.grad(lambda n: sop.loss(logits, label, n).sum() / batch_size))
    visits = 0
    while noise.v[0, 0] ** 2 < 0.5:
        noise = updated(noise, slope(noise), 0.0, lr_v)
        visits += 1
    rule = sop.activation_epochs(lr_v, batch_size)
    assert rule - 1 < visits < rule + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0, 64), "`lr_v`"), ((1.0, 0), "`batch_size`"), ((1.0, 64, 2.0), "`scale`")],
)
def test_unfit_rates_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        sop.activation_epochs(*arguments)
