import jax
import numpy as np
import optax
import pytest

from ncjax import losses, models
from ncjax.checks import InputError
from ncjax.parallel import AXIS
from ncjax.training import steps


def test_the_batches_of_an_epoch_are_a_shuffle_that_depends_on_seed_and_epoch_alone():
    rows = steps.batch_rows(100, 30, epoch=3, seed=1, shards=2)
    assert rows.shape == (2, 3, 15)
    assert len(np.unique(rows)) == 90
    again = steps.batch_rows(100, 30, epoch=3, seed=1, shards=1)
    np.testing.assert_array_equal(rows.swapaxes(0, 1).reshape(1, 3, 30), again)
    assert not np.array_equal(rows, steps.batch_rows(100, 30, epoch=4, seed=1, shards=2))
    assert not np.array_equal(rows, steps.batch_rows(100, 30, epoch=3, seed=2, shards=2))


@pytest.mark.parametrize(("batch_size", "shards"), [(101, 1), (30, 4)])
def test_batches_that_do_not_fit_are_refused(batch_size, shards):
    with pytest.raises(InputError, match=f"`batch_size`: got {batch_size}"):
        steps.check_batch_size(batch_size, 100, shards)


def test_an_epoch_is_plain_sgd_on_the_mean_of_each_batch():
    model = models.MLP(3, widths=(6,), axis_name=AXIS)
    optimizer = optax.sgd(0.1)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3
    state = steps.init_state(model, optimizer, images[:1], seed=0)
    epoch = steps.make_epoch(model, optimizer, losses.cross_entropy)
    rows = steps.batch_rows(12, 6, epoch=0, seed=0, shards=1)
    moved = jax.vmap(epoch, (None, None, None, 0), None, axis_name=AXIS)(
        state, images, labels, rows
    )

    plain = models.MLP(3, widths=(6,))
    params, stats = state.variables["params"], state.variables["batch_stats"]
    for chosen in rows[0]:

        def objective(params, stats=stats, chosen=chosen):
            variables = {"params": params, "batch_stats": stats}
            (logits, _), updated = plain.apply(
                variables, images[chosen], train=True, mutable=["batch_stats"]
            )
            return losses.cross_entropy(logits, labels[chosen]).mean(), updated

        gradient, updated = jax.grad(objective, has_aux=True)(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        stats = updated["batch_stats"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        dict(moved.variables),
        {"params": params, "batch_stats": stats},
    )
    assert moved.epoch == 1
