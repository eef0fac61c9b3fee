"""Autoencoders trained by the engine, and teachers made of runs."""

import dataclasses

import numpy as np
import pytest

from ncjax import data, tgt
from ncjax.checks import InputError
from ncjax.training import (
    TrainConfig,
    generator_of,
    guided,
    guides,
    labeler_of,
    load_run,
    methods,
    register_generator,
    train,
)

CONFIG = TrainConfig(
    network="autoencoder",
    width=8,
    feature_dim=6,
    optimizer="adam",
    learning_rate=1e-2,
    weight_decay=0.0,
    epochs=6,
    measure_every=0,
    checkpoint_every=3,
    autoencoder=methods.AutoencoderConfig(conditional=True),
)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "autoencoder"
    return folder, train(CONFIG, folder, show_progress=False)


def test_an_autoencoder_learns_digits_and_says_where_they_lie(autoencoder):
    folder, table = autoencoder
    images = data.load("digits").images
    of_mean = np.square(images - images.mean(0)).mean()
    assert table["test_mse"].iloc[-1] < 0.7 * of_mean
    assert table["divergence"].iloc[-1] > 1
    generator, labels = generator_of(folder), data.load("digits").labels
    z = np.asarray(generator.given(labels).encode(images))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), generator.scale, rtol=1e-3)
    with np.load(folder / "latents.npz") as latents:
        np.testing.assert_allclose(latents["covariance"], np.cov(z.T, bias=True), atol=1e-3)
    tgt.check_guide(tgt.Guide(generator, lambda x: x.reshape(len(x), -1)[:, :10]), images, 10)


def test_a_run_that_is_finished_stays_as_it_is(autoencoder):
    folder, table = autoencoder
    again = train(CONFIG, folder, show_progress=False)
    assert again.equals(table)


def test_a_student_learns_from_both(autoencoder, trained, tmp_path):
    exploring = guided.TGTConfig(str(trained[0]), str(autoencoder[0]), explore="prior")
    student = TrainConfig(widths=(16,), epochs=2, method="tgt", tgt=exploring)
    assert train(student, tmp_path / "student", show_progress=False)["accuracy"].iloc[-1] > 0.5


def test_a_network_labels_as_it_classifies(trained):
    run = load_run(trained[0])
    images = run.dataset.images[:20]
    logits = run.logits(run.variables["params"], images)
    np.testing.assert_allclose(labeler_of(run)(images), logits, rtol=1e-6)


def test_generators_of_ones_own_are_known_by_name(trained, monkeypatch):
    monkeypatch.setattr(guides, "GENERATORS", {})
    register_generator("mine", lambda dataset: tgt.principal(dataset.images, 5))
    exploring = guided.TGTConfig(str(trained[0]), "mine")
    config = TrainConfig(widths=(8,), epochs=1, method="tgt", tgt=exploring)
    assert len(guides.guide_of(config, data.load("digits")).generator.scale) == 5
    for name in ("mine", "pca"):
        with pytest.raises(InputError, match="`name`"):
            register_generator(name, lambda dataset: tgt.principal(dataset.images, 4))


@pytest.mark.parametrize("fit", ["all", "train"])
def test_components_are_fitted_to_what_is_asked_for(fit, trained):
    exploring = guided.TGTConfig(str(trained[0]), fit=fit, dim=4)
    corruption = data.Corruption(imbalance=50, validation=10)
    config = TrainConfig(method="tgt", tgt=exploring, corruption=corruption)
    dataset = data.load("digits").corrupt(corruption)
    mean = guides.guide_of(config, dataset).generator.mean
    images = dataset.images
    if fit == "all":
        images = data.load("digits").corrupt(data.Corruption(validation=10)).images
    np.testing.assert_allclose(mean, images.reshape(len(images), -1).mean(0), atol=1e-5)


def test_what_is_not_an_autoencoder_is_refused(trained):
    with pytest.raises(InputError, match=r"`tgt.generator`: got .*trained"):
        generator_of(trained[0])


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two classes, told apart by which half of the vocabulary their words are of."""
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    arrays = {}
    for prefix, count in (("", 240), ("test_", 60)):
        labels = np.arange(count) % 2
        words = rng.integers(2, 11, (count, 4)) + 9 * labels[:, None]
        words[rng.random(count) < 0.3, 3:] = 0
        arrays |= {f"{prefix}texts": words.astype(np.int32), f"{prefix}labels": labels}
    np.savez(folder / "texts.npz", **arrays)
    common = {"dataset": str(folder / "texts.npz"), "vocabulary": 20, "batch_size": 40}
    return folder, dataclasses.replace(CONFIG, **common)


def test_a_student_of_texts_learns_from_both(texts):
    folder, common = texts
    hidden = methods.AutoencoderConfig(hidden=0.2)
    changes = {"network": "text_autoencoder", "width": 24, "epochs": 60, "autoencoder": hidden}
    writer = dataclasses.replace(common, **changes)
    written = train(writer, folder / "writer", show_progress=False)
    assert written["test_word_accuracy"].iloc[-1] > 0.3
    reader = dataclasses.replace(common, network="textcnn", widths=(8,), epochs=3)
    train(reader, folder / "reader", show_progress=False)
    generator = generator_of(folder / "writer")
    dataset = data.load(common.dataset)
    tgt.check_guide(
        tgt.Guide(generator, labeler_of(load_run(folder / "reader"))), dataset.images, 2
    )
    for explore in ("gradient", "input_noise"):
        exploring = guided.TGTConfig(
            str(folder / "reader"), str(folder / "writer"), explore=explore, steps=2
        )
        few = data.Corruption(per_class=20, unlabelled=True)
        changes = {"network": "bag", "widths": (8,), "epochs": 30, "method": "tgt"}
        student = dataclasses.replace(common, corruption=few, tgt=exploring, **changes)
        table = train(student, folder / explore, show_progress=False)
        assert table["test_accuracy"].iloc[-1] > 0.8
