import dataclasses

import jax
import numpy as np
import pytest

from ncjax import curvature, data, losses, training
from ncjax.checks import InputError
from ncjax.data import Corruption
from ncjax.training import Engine, evaluators, measure
from tests.training.conftest import CONFIG


def test_rows_hold_what_the_evaluators_find_and_an_evaluator_of_ones_own():
    def norm(_, state):
        kernel = state.variables["params"]["Dense_0"]["kernel"]
        return {"first_layer": np.linalg.norm(kernel), "twice": np.nan}

    training.register_evaluator("norm", norm)
    try:
        noisy = Corruption("symmetric", noise=0.5)
        names = ("train", "test", "layers", "norm")
        config = dataclasses.replace(CONFIG, evaluators=names, corruption=noisy)
        dataset = data.load("digits").corrupt(noisy)
        engine = Engine(config, dataset, "vmap")
        (row,) = measure(engine, engine.initial())
        assert row["first_layer"] > 1
        assert row["twice"] is None
        assert 0 < row["test_nc1_pinv"] != row["nc1_pinv"]
        assert row["layer_1/nc1_pinv"] == pytest.approx(row["nc1_pinv"], rel=1e-4)
        assert "clean_accuracy" in row
        assert "test_clean_accuracy" not in row
        with pytest.raises(InputError, match="no other evaluator"):
            training.register_evaluator("norm", measure)
    finally:
        del evaluators.EVALUATORS["norm"]
    with pytest.raises(InputError, match="`evaluators`.*Did you mean 'train'"):
        training.train(dataclasses.replace(CONFIG, evaluators=("trian",)), "run")


def test_accuracy_on_each_class_is_that_of_its_examples_for_every_member():
    config = dataclasses.replace(CONFIG, widths=(4,), evaluators=("classes", "test"))
    configs = [config, dataclasses.replace(config, seed=1)]
    dataset = data.load("digits").corrupt(Corruption(validation=3))
    engine = Engine(configs, dataset, "vmap")
    state = engine.initial()
    rows = measure(engine, state)
    for row, variables in zip(rows, engine.of_members(state.variables), strict=True):
        logits = config.model(10).apply(variables, dataset.test_images, train=False)[0]
        right = np.asarray(logits).argmax(1) == dataset.test_labels
        for k in range(10):
            expected = right[dataset.test_labels == k].mean()
            assert row[f"test_recall_{k}"] == pytest.approx(expected, abs=1e-6)
        assert row["test_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
        assert "validation_recall_9" in row


def test_the_spectrum_evaluator_finds_the_ends_of_the_dense_hessian_of_every_member():
    names = ("spectrum",)
    config = dataclasses.replace(CONFIG, widths=(4,), evaluators=names)
    configs = [config, dataclasses.replace(config, seed=1, loss="mse")]
    engine = Engine(configs, data.load("digits"), "vmap")
    state = engine.initial()
    rows = measure(engine, state)
    images, labels = engine.dataset.images, engine.dataset.labels
    chosen = np.unique(np.linspace(0, 1436, 1000).round().astype(int))
    for number, row in enumerate(rows):
        variables = jax.tree.map(lambda leaf, n=number: leaf[n], dict(state.variables))
        params = variables.pop("params")
        model = config.model(10)
        loss = losses.get(configs[number].loss)

        def mean_loss(p, rest=variables, model=model, loss=loss):
            logits, _ = model.apply({"params": p, **rest}, images[chosen], train=False)
            return loss(logits, labels[chosen]).mean()

        values = np.linalg.eigvalsh(curvature.hessian_matrix(mean_loss, params))
        found = [row["hessian_smallest"], row["hessian_largest"]]
        np.testing.assert_allclose(found, values[[0, -1]], atol=1e-3 * values[-1])


def test_noisy_labels_are_measured_by_both_kinds_of_labels_and_by_what_sop_took_for_wrong():
    noisy = Corruption("symmetric_others", noise=0.3)
    names = ("train", "clean", "sop")
    settings = {"epochs": 30, "batch_size": 64, "weight_decay": 5e-4}
    config = dataclasses.replace(
        CONFIG, evaluators=names, corruption=noisy, method="sop", **settings
    )
    dataset = data.load("digits").corrupt(noisy)
    engine = Engine([config, dataclasses.replace(config, seed=1)], dataset, "vmap")
    state = engine.initial()
    rows = measure(engine, state)
    assert all(row["sop_rate"] == 0 for row in rows)
    for _ in range(config.epochs):
        state, _ = engine.advance(state)
    for number, row in enumerate(measure(engine, state)):
        variables = jax.tree.map(lambda leaf, n=number: leaf[n], dict(state.variables))
        predicted = np.asarray(engine.task.model.apply(variables, dataset.images)[0]).argmax(1)
        wrong = dataset.labels != dataset.clean_labels
        share = (predicted == dataset.labels)[wrong].mean()
        assert row["memorised"] == pytest.approx(share, abs=1e-3)
        assert row["clean_nc1_pinv"] != row["nc1_pinv"]
        assert row["sop_auc"] > 0.9
        assert 0.2 < row["sop_rate"] < 0.4
        assert row["clean_accuracy"] > 0.8
