"""WordNet 3.0's glosses, as text to classify and as passages to retrieve.

117,659 synsets, each with a definition and one of 45 lexicographer classes, of 14,435 members down
to 42; 32,923 have an example of their use too. The files are those of Debian's package
wordnet-base.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import train_test_split

from ncjax import checks

DEBIAN = Path("/usr/share/wordnet")
"""Where Debian's package wordnet-base has its files."""
FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
CLASSES = [
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
]
"""Names of the lexicographer classes, by their number in the files."""
PADDING, UNKNOWN = 0, 1
WORDS, VOCABULARY = 16, 4096
"""Of data set "wordnet": words of a text that are kept, and the size of the vocabulary."""
WORD = r"(?u)\b\w+\b"
_EXAMPLE = re.compile(r'"([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Glosses:
    """What WordNet says of its synsets, in the order of its files.

    Attributes:
        definitions: without examples.
        examples: the first one of each, "" where there is none.
        classes: numbers of lexicographer classes, int32 `[N]`.
    """

    definitions: tuple[str, ...]
    examples: tuple[str, ...]
    classes: np.ndarray


def folder() -> Path:
    """Where the files are: $WORDNET_DIR, or where Debian has them."""
    return Path(os.environ.get("WORDNET_DIR") or DEBIAN)


@functools.lru_cache(maxsize=2)
def glosses(where: Path | None = None) -> Glosses:
    """Reads the glosses.

    Args:
        where: folder of the files; `folder()` if None.

    Raises:
        InputError: no such files, or others.
    """
    where = folder() if where is None else where
    rows = []
    for name in FILES:
        try:
            text = (where / name).read_text()
            rows += [_parsed(line) for line in text.splitlines() if not line.startswith("  ")]
        except (OSError, ValueError, UnicodeDecodeError) as error:
            got, accepted = f"wordnet, of {where / name} ({error})", "one whose files are there"
            remedy = "Install Debian's package wordnet-base, or set $WORDNET_DIR."
            raise checks.reject("dataset", got, accepted, remedy) from error
    definitions, examples, classes = zip(*rows, strict=True)
    return Glosses(definitions, examples, np.array(classes, np.int32))


def _parsed(line: str) -> tuple[str, str, int]:
    """Definition, first example and class of a synset: see wndb(5WN)."""
    fields, _, gloss = line.partition("|")
    number = int(fields.split()[1])
    if not gloss or not 0 <= number < len(CLASSES):
        raise ValueError(f"a line that is no synset: {line[:60]!r}")
    definition, *_ = re.split(r'[;:,]?\s*"', gloss, maxsplit=1)
    example = _EXAMPLE.search(gloss)
    return definition.strip(), example.group(1).strip() if example else "", number


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words by number, the most frequent first; 0 is padding, 1 any other word.

    Attributes:
        words: in their order, from number 2 on.
    """

    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(self, texts: list[str] | tuple[str, ...], length: int) -> np.ndarray:
        """Numbers of the first words of each text, int32 `[N, length]`, padded at the end."""
        numbers = {word: number + 2 for number, word in enumerate(self.words)}
        analyse = CountVectorizer(token_pattern=WORD).build_analyzer()
        found = np.full((len(texts), length), PADDING, np.int32)
        for row, text in zip(found, texts, strict=True):
            own = [numbers.get(word, UNKNOWN) for word in analyse(text)[:length]]
            row[: len(own)] = own
        return found

    def decode(self, tokens: np.ndarray) -> str:
        """The words of one text, "?" for those that are not known."""
        known = {number + 2: word for number, word in enumerate(self.words)}
        return " ".join(known.get(int(token), "?") for token in tokens if token != PADDING)


def vocabulary(texts: list[str] | tuple[str, ...], size: int) -> Vocabulary:
    """The most frequent words of texts.

    Args:
        texts: to count in.
        size: of the vocabulary, with padding and the unknown word.
    """
    checks.check_count("size", size, 3)
    counter = CountVectorizer(token_pattern=WORD, max_features=size - 2)
    counts = np.asarray(counter.fit_transform(texts).sum(0)).ravel()
    words = counter.get_feature_names_out()
    order = np.lexsort((words, -counts))
    return Vocabulary(tuple(words[order].tolist()))


def split() -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the synsets for training and for testing, a fifth, stratified."""
    classes = glosses().classes
    rows = np.arange(len(classes))
    return tuple(train_test_split(rows, test_size=0.2, stratify=classes, random_state=0))


@functools.lru_cache(maxsize=1)
def known() -> Vocabulary:
    """The vocabulary of data set "wordnet": of its definitions for training."""
    definitions = glosses().definitions
    return vocabulary([definitions[row] for row in split()[0]], VOCABULARY)
