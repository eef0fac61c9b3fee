"""Steps of a student beside their literal reading, on one device and on two."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import data, losses, tgt
from ncjax.checks import InputError
from ncjax.data import Corruption
from ncjax.training import EVALUATORS, Engine, TrainConfig, guided, methods, train
from tests.tgt.linear import Linear
from tests.training.by_hand import PLAIN, advanced, assert_close, by_hand, images, labels


def labeler(x):
    return 3 * jnp.asarray(x)[:, :3]


def configured(**settings):
    return dataclasses.replace(PLAIN, method="tgt", tgt=guided.TGTConfig("labeler", **settings))


def student(config, shards=1, count=1, images=images, **changes):
    known = {"guide": tgt.Guide(Linear(), labeler), "labels": labels}
    of_task = known | {"standardised": lambda x: 2 * x} | changes
    return advanced(config, shards, count, images, **of_task)


def as_vectors(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("shards", [1, 2])
def test_distillation_is_cross_entropy_and_a_divergence_at_a_temperature(shards):
    config = configured(explore="none", temperature=2.0, real=0.5)
    state, after, _, rows = student(config, shards, count=2)
    batches = rows.swapaxes(0, 1).reshape(-1, 6)[:2]
    said = iter(batches)

    def objective(_, logits, __, y):
        h = jax.nn.softmax(labeler(images[next(said)]) / 2)
        divergence = (h * (jnp.log(h) - jax.nn.log_softmax(logits / 2))).sum(-1)
        return (losses.cross_entropy(logits, y) + 0.5 * 4 * divergence).mean()

    assert_close(dict(after.variables), by_hand(state, batches, objective))


def test_the_loss_is_that_of_all_parts_with_their_weights():
    settings = {
        "temperature": 1.0,
        "generated": 0.7,
        "unlabelled": 0.3,
        "confidence": "probability",
    }
    config = configured(explore="random", radius=0.5, **settings)
    more = np.random.default_rng(5).normal(size=(7, 4)).astype(np.float32)
    state, _, loss, rows = student(config, images=np.concatenate([images, more]))
    chosen = rows[0, 0]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 1)
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(6))
    of_rows, of_noise = (jax.vmap(lambda k, n=n: jax.random.fold_in(k, n))(keys) for n in (0, 1))
    drawn = more[jax.vmap(lambda k: jax.random.randint(k, (), 0, 7))(of_rows)]
    made = tgt.random(of_noise, images[chosen], Linear(), radius=0.5).x
    model, variables = config.model(3), dict(state.variables)

    def logits(x):
        return model.apply(variables, 2 * x, train=True, mutable=["batch_stats"])[0][0]

    together = logits(jnp.concatenate([images[chosen], drawn]))  # apart from the generated ones
    each = [
        losses.cross_entropy(together[:6], labels[chosen]),
        tgt.distillation(together[:6], labeler(images[chosen]), 1.0),
        0.3 * tgt.distillation(together[6:], labeler(drawn), 1.0),
        0.7 * tgt.confidence(labeler(made)) * tgt.distillation(logits(made), labeler(made), 1.0),
    ]
    np.testing.assert_allclose(loss, sum(part.mean() for part in each), rtol=1e-5)


@pytest.mark.parametrize(
    ("explore", "settings"),
    [
        ("prior", {}),
        ("random", {"batches": "merged", "seeds": "balanced"}),
        ("gradient", {"steps": 2}),
        ("input_noise", {"seeds": "balanced"}),
        ("mixup", {"batches": "merged"}),
    ],
)
def test_arms_do_not_depend_on_the_number_of_devices(explore, settings):
    config = configured(explore=explore, **settings)
    one, two = (student(config, shards, count=3)[1] for shards in (1, 2))
    assert_close(dict(one.variables), dict(two.variables))
    plain = student(configured(explore="none"), count=3)[1]
    assert np.abs(as_vectors(one.variables) - as_vectors(plain.variables)).max() > 1e-4


def test_batch_statistics_remember_generated_images_only_if_merged():
    def statistics(**settings):
        return as_vectors(student(configured(**settings))[1].variables["batch_stats"])

    real = statistics(explore="none")
    np.testing.assert_allclose(statistics(radius=2.0, batches="separate"), real, rtol=1e-5)
    assert np.abs(statistics(radius=2.0, batches="merged") - real).max() > 1e-3


def test_weights_of_zero_leave_plain_training():
    config = configured(explore="random", generated=0.0, real=0.0)
    assert_close(student(config)[1].variables, student(PLAIN)[1].variables)


def test_balanced_seeds_are_of_all_classes_alike():
    unequal = np.repeat([0, 2, 3], [90, 9, 1])
    keys = jax.random.split(jax.random.key(0), 3000)
    rows = np.asarray(guided.balanced(unequal, 4)(keys))
    shares = np.bincount(unequal[rows], minlength=4) / 3000
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.04)
    assert len(np.unique(rows)) > 80


@dataclasses.dataclass(frozen=True)
class Shifted(Linear):
    """Adds the class to everything."""

    labels: object = None

    def given(self, labels):
        return dataclasses.replace(self, labels=labels)

    def decode(self, z):
        return super().decode(z) + self.labels[:, None].astype(z.dtype)


@pytest.mark.parametrize("seeds", ["batch", "unlabelled"])
def test_conditional_generators_get_the_seeds_classes(seeds):
    config = guided.TGTConfig("labeler", radius=0.0, seeds=seeds)
    guide = tgt.Guide(Shifted(), labeler)
    x = jnp.asarray(images)
    batch = methods.Batch(
        keys=jax.random.split(jax.random.key(0), 6),
        images=x[:6],
        seen=x[:6],
        labels=jnp.asarray(labels[:6]),
        draw=lambda rows: jnp.full((len(rows), 4), 2.0).at[:, 1].set(3.0),
        count=20,
        inputs=lambda x: x,
        unit=lambda x: x,
        standardised=lambda x: x,
        student=labeler,
    )
    shown, _ = guided.guided(config, losses.cross_entropy, guide, labels, 3).see(batch)
    of_seeds, classes = (x[:6], batch.labels) if seeds == "batch" else (batch.draw(x[:6]), 1)
    flat = Linear().decode(Linear().encode(of_seeds))
    expected = flat + jnp.broadcast_to(jnp.asarray(classes), (6,))[:, None].astype(flat.dtype)
    np.testing.assert_allclose(shown[6:], expected, atol=1e-5)


def test_students_train_by_a_run_and_go_on_where_they_stopped(tmp_path, trained, monkeypatch):
    exploring = {"explore": "gradient", "seeds": "unlabelled", "unlabelled": 0.5}
    config = TrainConfig(
        widths=(16,),
        method="tgt",
        tgt=guided.TGTConfig(str(trained[0]), **exploring),
        corruption=Corruption(imbalance=20, unlabelled=True),
        epochs=4,
        batch_size=64,
        evaluators=("train", "test", "stopping"),
        measure_every=2,
        checkpoint_every=1,
    )
    measured = iter(range(20))

    def stopping(*_):
        if next(measured) == 4:  # epochs 1, 2, 4 of the whole run, then 1 and 2 of the other
            raise KeyboardInterrupt
        return {}

    monkeypatch.setitem(EVALUATORS, "stopping", stopping)
    whole = train(config, tmp_path / "whole", show_progress=False)
    assert whole["test_accuracy"].iloc[-1] > 0.3
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", show_progress=False)
    parts = train(config, tmp_path / "parts", show_progress=False)
    np.testing.assert_allclose(parts["loss"].iloc[-1], whole["loss"].iloc[-1], rtol=1e-5)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"explore": "randon"}, "Did you mean 'random'"),
        ({"seeds": "even"}, "`seeds`"),
        ({"temperature": 0.0}, "`temperature`"),
        ({"steps": -1}, "`steps`"),
        ({"radius": -0.1}, "`radius`"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        guided.TGTConfig(**changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`tgt.labeler`: got none"),
        ({"labeler": "nowhere"}, "`run`: got nowhere"),
        ({"labeler": "trained", "generator": "gan"}, "`tgt.generator`: got 'gan'"),
        ({"labeler": "trained", "unlabelled": 1.0}, "without unlabelled images"),
    ],
)
def test_runs_without_what_they_need_are_refused(settings, message, tmp_path, trained):
    named = {name: str(trained[0]) if x == "trained" else x for name, x in settings.items()}
    config = TrainConfig(widths=(8,), epochs=1, method="tgt", tgt=guided.TGTConfig(**named))
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run", show_progress=False)


def test_logit_adjustment_moves_logits_by_the_frequencies_of_classes():
    unequal = np.array([0] * 8 + [1] * 3 + [2])
    config = dataclasses.replace(PLAIN, method="logit_adjustment")
    state, after, _, rows = advanced(config, labels=unequal)
    offset = np.log(np.array([8, 3, 1], np.float32) / 12)

    def objective(_, logits, __, y):
        return losses.cross_entropy(logits + offset[None], y).mean()

    assert_close(dict(after.variables), by_hand(state, rows[0, :2], objective))


def test_unlabelled_images_are_never_those_of_validation_or_test():
    corruption = Corruption(per_class=20, validation=5, unlabelled=True)
    dataset = data.load("digits").corrupt(corruption)
    held = {name: getattr(dataset, name) for name in ("validation_images", "test_images")}
    poisoned = {name: np.full_like(images, images.max()) for name, images in held.items()}
    dataset = dataclasses.replace(dataset, **poisoned, unlabelled=dataset.unlabelled[:20])

    def marking(x):
        flat = x.reshape(len(x), -1)
        return jnp.where((flat == flat[:, :1]).all(1, keepdims=True), jnp.nan, flat[:, :10])

    exploring = guided.TGTConfig("ours", explore="none", unlabelled=1.0)
    config = TrainConfig(
        widths=(8,), batch_size=50, epochs=2, method="tgt", tgt=exploring, corruption=corruption
    )
    engine = Engine(config, dataset, "vmap", guide=tgt.Guide(None, marking))
    state, loss = engine.advance(engine.initial(), 8)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables))
