import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import frames, losses, models
from ncjax.checks import InputError
from ncjax.training import steps
from ncjax.training.methods import FreeConfig
from tests.training.by_hand import PLAIN, advanced, assert_close, by_hand, labels


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


@pytest.mark.parametrize("shards", [1, 2])
def test_steps_are_plain_sgd_on_the_mean_of_each_batch(shards):
    state, after, loss, rows = advanced(PLAIN, shards)
    batches = rows.swapaxes(0, 1).reshape(-1, 6)[:2]
    expected = by_hand(
        state, batches, lambda _, logits, __, y: losses.cross_entropy(logits, y).mean()
    )
    assert_close(dict(after.variables), expected)
    assert after.step == 2
    assert 0.5 < loss < 3


def test_decay_on_features_weighs_each_sample_of_the_whole_set_and_the_head_alone():
    config = dataclasses.replace(PLAIN, decay="features", feature_decay=1e-2, weight_decay=0.3)
    state, after, _, rows = advanced(config)

    def objective(params, logits, features, y):
        head = sum((leaf**2).sum() for leaf in jax.tree.leaves(params["head"]))
        of_features = 1e-2 / 2 * 12 / 6 * (features**2).sum()
        return losses.cross_entropy(logits, y).mean() + 0.3 / 2 * head + of_features

    assert_close(dict(after.variables), by_hand(state, rows[0, :2], objective))
    without = advanced(dataclasses.replace(config, feature_decay=0.0))[1]
    inner = "Dense_0"
    moved = (
        after.variables["params"][inner]["kernel"] - without.variables["params"][inner]["kernel"]
    )
    assert abs(moved).max() > 1e-4  # the official code's penalty of normalised features has none


def test_a_fixed_etf_never_changes_and_the_rest_is_trained_through_it():
    config = dataclasses.replace(PLAIN, head="etf", weight_decay=0.1)
    state, after, _, _ = advanced(config, count=8)
    W, _ = models.classifier(after.variables)
    np.testing.assert_array_equal(W, frames.simplex_etf(3, 6))
    assert "kernel" not in after.variables["params"]["head"]
    before, now = (s.variables["params"]["Dense_0"]["kernel"] for s in (state, after))
    assert abs(before - now).max() > 1e-2


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lbfgs"])
def test_other_optimizers_lower_the_loss_alike_on_any_number_of_shards(optimizer):
    config = dataclasses.replace(
        PLAIN, optimizer=optimizer, learning_rate=1e-2, weight_decay=1e-3, batch_size=6, epochs=4
    )
    _, one, first, _ = advanced(config, count=1)
    _, after, mean, _ = advanced(config, count=8)
    assert mean < first
    _, two, _, _ = advanced(config, shards=2, count=1)
    assert_close(dict(one.variables), dict(two.variables))
    assert after.step == 8


def test_gradients_are_clipped_before_decay():
    config = dataclasses.replace(PLAIN, clip=1e-3, weight_decay=0.5)
    state, after, _, _ = advanced(config, count=1)
    params, moved = state.variables["params"], after.variables["params"]
    slope = jax.tree.map(lambda p, q: (p - q) / 0.1 - 0.5 * p, params, moved)
    norm = np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(slope)))
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_convolutions_are_held_to_be_orthogonal_if_told():
    x = np.random.default_rng(1).normal(size=(12, 4, 4)).astype(np.float32)
    small = dataclasses.replace(PLAIN, network="cnn", width=2, feature_dim=3)
    held = dataclasses.replace(small, orthogonality=0.05)
    sizes = []
    for config in (small, held):
        _, after, _, _ = advanced(config, shards=2, count=8, images=x)
        assert set(after.variables) == {"params", "batch_stats"}
        layers = [after.variables["params"][f"Layer_{i}"]["Conv"]["kernel"] for i in range(2)]
        sizes.append(sum(float(models.orthogonality(kernel)) for kernel in layers))
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("shards", [1, 2])
def test_free_adversarial_training_replays_each_batch_with_a_perturbation_that_lasts(shards):
    x = np.random.default_rng(1).random((12, 4)).astype(np.float32)
    config = dataclasses.replace(PLAIN, free=FreeConfig(replays=3, epsilon=0.1))
    state, after, _, rows = advanced(config, shards, count=2, images=x)
    batches = rows.swapaxes(0, 1).reshape(-1, 6)[:2]
    rest, moved = dict(state.variables), np.zeros((6, 4), np.float32)
    params, model = rest.pop("params"), config.model(3)
    for chosen in batches:
        for _ in range(3):

            def total(params, moved, rest=rest, chosen=chosen):
                seen = jnp.clip(x[chosen] + moved, 0, 1)
                variables = {"params": params, **rest}
                (logits, _), new = model.apply(variables, seen, train=True, mutable=list(rest))
                return losses.cross_entropy(logits, labels[chosen]).mean(), new

            slopes, rest = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, moved)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes[0])
            moved = np.clip(moved + 0.1 * np.sign(slopes[1]), -0.1, 0.1)
    assert_close(after.variables["params"], params)
    np.testing.assert_allclose(after.perturbation, moved, atol=1e-7)
    assert np.abs(moved).max() > 0
    assert after.step == 2
