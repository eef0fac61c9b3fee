"""The experiments with teacher-guided training, at their smallest preset."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from experiments import retrieval, tgt_longtail, tgt_lowdata, tgt_networks, tgt_retrieval, tgt_text
from ncjax import models, tgt
from ncjax.checks import InputError
from ncjax.data import wordnet
from ncjax.training import guided

FEW = ("one-hot", "KD", "TGT random")
ALL = (*FEW, "TGT gradient")
CACHES = (wordnet.glosses, wordnet.known, retrieval.pairs)


@pytest.fixture
def few_glosses(tmp_path, monkeypatch):
    """A WordNet of forty synsets a class."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["by", "or", "to"], 6)) for _ in range(40 * 45)]
    lines = [
        f'0 {k % 45:02d} n 01 a 0 000 | {text} of {k % 45}; "so {text}"'
        for k, text in enumerate(texts)
    ]
    for number, name in enumerate(wordnet.FILES):
        (tmp_path / name).write_text("\n".join(lines[number::4]) + "\n")
    monkeypatch.setenv("WORDNET_DIR", str(tmp_path))
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


@pytest.mark.usefixtures("no_type_checks", "few_glosses")
@pytest.mark.parametrize(
    ("module", "grids", "arms", "files"),
    [
        (tgt_longtail, "ARMS", ALL, ("tgt_longtail.png", "digits/figures/tgt_path.png")),
        (tgt_lowdata, "EVEN", FEW, ("tgt_lowdata.png", "10/less_kd.md", "10/chosen.md")),
        (tgt_text, "WORDS", (*ALL[1:], "KD + mixup"), ("tgt_text.png", "on_the_way.md")),
        (tgt_retrieval, "PAIRS", FEW[1:], ("tgt_retrieval.png", "chosen.md")),
    ],
)
def test_arms_train_and_end_with_tables_and_figures(
    module, grids, arms, files, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(module, grids, {arm: tgt_networks.ARMS[arm][:1] for arm in arms})
    module.main("smoke", tmp_path / "run")
    printed = capsys.readouterr().out
    assert all(arm in printed for arm in arms)
    for file in files:
        assert (tmp_path / "run" / file).exists()


@pytest.mark.usefixtures("few_glosses")
def test_queries_are_mixed_with_others_of_their_batch(monkeypatch):
    model, optimizer, given = models.DualEncoder(wordnet.VOCABULARY, 4), optax.sgd(0.1), []

    def mixed(settings, guide, student, keys, seeds, labels):
        given.append(seeds)
        return guided.explored(settings, guide, student, keys, seeds, labels)

    monkeypatch.setattr(retrieval, "explored", mixed)
    known, rows = retrieval.pairs(), retrieval.pairs().parts["train"][:4]
    queries = known.queries[rows]
    params = model.init(jax.random.key(0), queries, known.passages[:4])
    guide = tgt.Guide(None, retrieval.scorer(model, params))
    settings = guided.TGTConfig("cross-encoder", explore="mixup")
    state, batch = (params, optimizer.init(params)), (jnp.asarray(rows), jax.random.key(1))
    retrieval._step(model, optimizer, settings, guide, None, state, batch)
    np.testing.assert_array_equal(given[0], np.concatenate([queries, queries[[1, 2, 3, 0]]]))


@pytest.mark.usefixtures("few_glosses")
def test_words_alone_find_passages_that_share_them_and_no_others(monkeypatch):
    found = wordnet.glosses()
    assert retrieval.first_by_words("test") < 0.2  # three words, in any order
    numbered = tuple(f"{text} w{row}" for row, text in enumerate(found.definitions))
    told = dataclasses.replace(found, definitions=numbered, examples=numbered)
    monkeypatch.setattr(wordnet, "glosses", lambda: told)
    assert retrieval.first_by_words("train") == 1


def test_the_preset_of_the_paper_says_what_it_needs(tmp_path):
    with pytest.raises(InputError, match=r"without imagenet\.npz and bigbigan"):
        tgt_longtail.main("paper", tmp_path / "run")
    study = tgt_longtail.studies("paper")["ImageNet, 256"]
    sizes = study.base.corruption.kept(np.repeat(np.arange(1000), 1300), 1000)
    counts = np.bincount(np.arange(1000).repeat(1300)[sizes])
    assert (counts[0], counts[-1]) == (1280, 5)


def test_settings_are_chosen_by_validation_not_by_test():
    rows = [("KD", 0, 0.5, 0.9), ("KD", 1, 0.6, 0.1), ("one-hot", 0, 0.4, 0.4)]
    table = pd.DataFrame(rows, columns=["arm", "setting", "validation_accuracy", "test_accuracy"])
    picked = tgt_networks.chosen(table.assign(seed=0))
    assert list(picked["arm"]) == ["one-hot", "KD"]
    assert list(picked["setting"]) == [0, 1]


def test_differences_are_between_the_same_seeds():
    rows = [("KD", s, 0.5 + 0.1 * s) for s in range(3)]
    rows += [("TGT", s, 0.6 + 0.1 * s + 0.01 * (s - 1)) for s in range(3)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "accuracy"])
    found = tgt_networks.paired(table, ["accuracy"], "KD").loc["TGT"]
    assert found["accuracy, difference"] == pytest.approx(0.1)
    assert found["accuracy, in standard errors"] == pytest.approx(0.1 / (0.01 / 3**0.5))
