import numpy as np
import pytest

from ncjax import data
from ncjax.checks import InputError
from ncjax.data import wordnet

LINES = {
    "data.noun": [
        "  1 This software and database",
        "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived; a thing  ",
        '00002137 05 n 01 cat 0 001 @ 0 n 0000 | a small animal; "the cat sat"; "two cats"',
    ],
    "data.verb": ["00001740 29 v 01 breathe 0 001 * 0 v 0000 01 + 02 00 | draw air into the lungs"],
    "data.adj": ['00001740 00 a 01 able 0 000 | (followed by `to\') having power; "able to swim"'],
    "data.adv": ["00001740 02 r 01 barely 0 000 | only just, by a small margin"],
}


@pytest.fixture
def files(tmp_path):
    for name, lines in LINES.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_definitions_examples_and_classes_are_told_apart(files):
    found = wordnet.glosses(files)
    assert found.definitions == (
        "that which is perceived; a thing",
        "a small animal",
        "draw air into the lungs",
        "(followed by `to') having power",
        "only just, by a small margin",
    )
    assert found.examples == ("", "the cat sat", "", "able to swim", "")
    names = [wordnet.CLASSES[number] for number in found.classes]
    assert names == ["noun.Tops", "noun.animal", "verb.body", "adj.all", "adv.all"]


def test_words_are_numbered_by_frequency_and_texts_cut_and_padded():
    texts = ["a cat and a dog", "a dog barks"]
    words = wordnet.vocabulary(texts, 4)
    assert words.words == ("a", "dog")
    tokens = words.encode(texts, 4)
    np.testing.assert_array_equal(tokens, [[2, 1, 1, 2], [2, 3, 1, 0]])
    assert words.decode(tokens[1]) == "a dog ?"
    assert len(words) == 4


@pytest.mark.parametrize("damage", ["missing", "no synset"])
def test_what_is_not_wordnet_is_refused(files, damage):
    if damage == "missing":
        (files / "data.adj").unlink()
    else:
        (files / "data.adj").write_text("something else\n")
    wordnet.glosses.cache_clear()
    with pytest.raises(InputError, match=r"`dataset`.*data.adj.*wordnet-base"):
        wordnet.glosses(files)


@pytest.mark.skipif(not wordnet.DEBIAN.exists(), reason="Debian's wordnet-base is not installed")
def test_the_whole_of_it_is_as_large_as_it_should_be():
    found = wordnet.glosses()
    assert len(found.definitions) == 117_659
    counts = np.bincount(found.classes, minlength=45)
    assert (counts.max(), counts.min(), len(counts)) == (14_435, 42, 45)
    assert sum(map(bool, found.examples)) == 32_923
    dataset = data.load("wordnet")
    assert dataset.images.shape == (94_127, 16)
    assert dataset.images.max() == data.VOCABULARY - 1
    assert np.bincount(dataset.test_labels).min() >= 8
    row = int(wordnet.split()[0][7])
    words = wordnet.known().decode(dataset.images[7]).split()
    assert words[:2] == found.definitions[row].lower().split()[:2]
