"""What is kept of each sample, in training steps on one device and on two."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import losses, sop
from ncjax.checks import InputError
from ncjax.training import TrainConfig, methods
from ncjax.training.checkpoints import Checkpoints
from tests.training.by_hand import PLAIN, advanced, assert_close, images, labels

RATES = methods.SOPConfig(lr_u=3.0, lr_v=40.0, inert=True)  # in four epochs
SOP = dataclasses.replace(PLAIN, method="sop", sop=RATES)


def dense(config, state, rows):
    """Parameters, and u and v, by gradients of all of them; plain SGD on the network."""
    rest, noise, settings = dict(state.variables), state.samples, config.sop
    params, model = rest.pop("params"), config.model(3)
    for chosen in rows:

        def total(params, noise, rest=rest, chosen=chosen):
            variables = {"params": params, **rest}
            (logits, _), new = model.apply(variables, 2 * images[chosen], train=True, mutable=rest)
            own, y = noise.rows(chosen), labels[chosen]
            value = sop.loss(logits, y, own, u_gradient=settings.u_gradient).mean()
            if settings.balance:
                mean = sop.noise.corrected(logits, y, own).mean(0)
                value -= settings.balance * jnp.log(mean).mean()
            return value, new

        slopes, rest = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, noise)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes[0])
        noise = sop.noise.updated(noise, slopes[1], settings.lr_u, settings.lr_v)
    return params, noise


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"u_gradient": "paper"}, {"balance": 0.5}])
def test_rows_are_updated_as_the_whole_would_be(shards, changes):
    config = dataclasses.replace(SOP, sop=dataclasses.replace(SOP.sop, **changes))
    state, after, _, rows = advanced(config, shards, count=8)
    batches = rows.swapaxes(0, 1).reshape(-1, 6)
    params, noise = dense(config, state, batches)
    assert_close(after.variables["params"], params)
    # Relative to their own size, which grows from 1e-8 by orders of magnitude.
    np.testing.assert_allclose(after.samples.v, noise.v, rtol=1e-3)
    np.testing.assert_allclose(after.samples.u, noise.u, rtol=1e-3)
    assert np.abs(noise.v).max() > 1e-4


def test_a_strong_view_is_held_to_the_plain_one_on_any_number_of_shards():
    x = np.random.default_rng(3).normal(size=(12, 2, 2)).astype(np.float32)
    plus = dataclasses.replace(SOP, sop=dataclasses.replace(RATES, consistency=0.9))
    _, one, loss, _ = advanced(plus, count=3, images=x)
    _, two, _, _ = advanced(plus, shards=2, count=3, images=x)
    assert_close(dict(one.variables), dict(two.variables))
    _, plain, of_plain, _ = advanced(SOP, count=3, images=x)
    assert loss > of_plain
    kernels = [state.variables["params"]["Dense_0"]["kernel"] for state in (one, plain)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_a_sample_starts_alike_in_any_subset():
    numbers = np.random.default_rng(0).permutation(40)[:12]
    of_all, _, _, _ = advanced(SOP, count=0, numbers=np.arange(40))
    of_some, _, _, _ = advanced(SOP, count=0, numbers=numbers)
    np.testing.assert_array_equal(of_some.samples.v, of_all.samples.v[numbers])
    np.testing.assert_array_equal(of_some.samples.u, of_all.samples.u[numbers])


def test_samples_out_of_the_batch_stay_as_they_are():
    state, after, _, rows = advanced(SOP, count=1)
    others = np.setdiff1d(np.arange(12), rows[0, 0])
    np.testing.assert_array_equal(after.samples.v[others], state.samples.v[others])
    np.testing.assert_array_equal(after.samples.u[others], state.samples.u[others])
    assert (after.samples.u[rows[0, 0]] != state.samples.u[rows[0, 0]]).all()


@pytest.mark.parametrize("shards", [1, 2])
def test_early_learning_keeps_means_of_predictions(shards):
    config = dataclasses.replace(PLAIN, method="elr", elr=methods.ELRConfig(2.0, 0.6))
    state, after, _, rows = advanced(config, shards, count=1)
    chosen, model = rows[:, 0].ravel(), config.model(3)
    rest = dict(state.variables)
    params = rest.pop("params")

    def total(params):
        variables = {"params": params, **rest}
        (logits, _), _ = model.apply(variables, 2 * images[chosen], train=True, mutable=rest)
        targets = 0.4 * jax.lax.stop_gradient(jax.nn.softmax(logits))
        agreement = (jax.nn.softmax(logits) * targets).sum(-1)
        entropy = losses.cross_entropy(logits, labels[chosen])
        return (entropy + 2.0 * jnp.log(1 - agreement)).mean(), targets

    slopes, targets = jax.jit(jax.grad(total, has_aux=True))(params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes)
    assert_close(after.variables["params"], expected)
    np.testing.assert_allclose(after.samples[chosen], targets, rtol=1e-4, atol=1e-6)
    assert not np.asarray(after.samples)[np.setdiff1d(np.arange(12), chosen)].any()


def test_what_is_kept_is_saved_with_the_run(tmp_path):
    _, after, _, _ = advanced(SOP, count=3)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(after)
        again = checkpoints.restore(after)
    jax.tree.map(np.testing.assert_array_equal, again.samples, after.samples)


def test_forward_correction_sees_labels_through_the_confusion():
    config = dataclasses.replace(PLAIN, method="forward")
    plain, none = advanced(PLAIN)[1], np.eye(3, dtype=np.float32)
    assert_close(advanced(config, confusion=none)[1].variables, plain.variables)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "soap"}, "Did you mean 'sop'"),
        ({"method": "sop", "loss": "mse"}, "`loss`.*method 'sop'"),
        ({"method": "elr", "optimizer": "lbfgs"}, "`optimizer`"),
        (
            {"method": "sop", "sop": {"lr_v": 1.0}, "epochs": 20},
            "switches on after .* of 20 epochs",
        ),
        ({"sop": {"u_gradient": "both"}}, "`u_gradient`"),
        ({"sop": {"lr_u": 0.0}}, "`lr_u`"),
        ({"elr": {"memory": 1.0}}, "`memory`"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**changes)


def test_rates_suit_batch_and_epochs_unless_they_are_given_and_an_inert_run_can_be_asked_for():
    rates = TrainConfig(method="sop", batch_size=64, epochs=150).sop_rates
    assert sop.activation_epochs(rates.v, 64) == pytest.approx(4)
    given = TrainConfig(method="sop", sop={"lr_v": 7.0, "inert": True}, epochs=2).sop_rates
    assert given.v == 7.0


@pytest.mark.parametrize("shards", [1, 2])
def test_autoencoders_of_texts_write_words_that_they_did_not_see(shards):
    words = np.random.default_rng(4).integers(0, 6, (12, 5)).astype(np.int32)
    config = dataclasses.replace(
        PLAIN,
        network="text_autoencoder",
        vocabulary=6,
        autoencoder=methods.AutoencoderConfig(hidden=0.5),
    )
    state, _, loss, rows = advanced(config, shards, 1, words)
    chosen = rows.swapaxes(0, 1).reshape(-1, 6)[0]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 1)
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(6))
    hidden = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (5,)))(keys)) < 0.5
    shown = np.where(hidden & (words[chosen] > 0), 1, words[chosen])
    assert 0 < (shown != words[chosen]).mean() < 1
    outputs = config.model(3, shape=(5,)).apply(dict(state.variables), shown)[0]
    np.testing.assert_allclose(
        loss, losses.cross_entropy(outputs.reshape(6, 5, 6), words[chosen]).mean(), rtol=1e-5
    )
