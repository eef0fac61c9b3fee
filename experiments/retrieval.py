"""Usage examples and the definitions that they go with: data, and networks that score pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.feature_extraction.text import TfidfVectorizer

from ncjax import models, runs, tgt
from ncjax.data import wordnet
from ncjax.training.guided import TGTConfig, explored

VALIDATION = 1000
PRODUCTS = 10_000_000
"""Scores at a time, when queries are ranked among all passages."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Queries, passages, and which goes with which.

    Attributes:
        vocabulary: of both.
        passages: definitions of all synsets, word numbers `[M, L]`.
        queries: examples of those that have one, `[n, L]`.
        right: the number of each query's passage, `[n]`.
        parts: numbers of queries, for "train", "validation" and "test".
    """

    vocabulary: wordnet.Vocabulary
    passages: np.ndarray
    queries: np.ndarray
    right: np.ndarray
    parts: Mapping[str, np.ndarray]


@functools.lru_cache(maxsize=1)
def pairs() -> Pairs:
    """All of WordNet's; the vocabulary is of what is for training."""
    found, (train, test) = wordnet.glosses(), wordnet.split()
    right = np.flatnonzero(found.examples)
    texts = [found.definitions[row] for row in train] + [found.examples[row] for row in train]
    vocabulary = wordnet.vocabulary(texts, wordnet.VOCABULARY)
    places = np.flatnonzero(np.isin(right, train))
    order = np.random.default_rng(0).permutation(places)
    held = min(VALIDATION, len(order) // 5)
    parts = {"validation": order[:held], "train": order[held:]}
    parts["test"] = np.flatnonzero(np.isin(right, test))
    return Pairs(
        vocabulary,
        vocabulary.encode(found.definitions, wordnet.WORDS),
        vocabulary.encode([found.examples[row] for row in right], wordnet.WORDS),
        right,
        parts,
    )


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network of pairs is trained, by Adam.

    Attributes:
        dim: of the network.
        steps: updates.
        batch_size: pairs a step; each query is scored against the passages of all.
        rate: learning rate.
    """

    dim: int
    steps: int
    batch_size: int = 32
    rate: float = 3e-4


def trained(
    model: nn.Module,
    config: Training,
    rows: np.ndarray,
    seed: int,
    path: Path,
    *,
    settings: TGTConfig | None = None,
    guide: tgt.Guide | None = None,
    others: np.ndarray | None = None,
) -> Any:
    """Parameters of a network that scores pairs, trained unless they are in the file.

    Args:
        model: called with queries and passages.
        config: how to train.
        rows: numbers of the queries whose passages are known.
        seed: of weights, batches and what is explored.
        path: where the parameters are kept.
        settings: of teacher-guided training, of which what concerns batches, confidence and seeds
            is not for pairs; by the right passages alone if None.
        guide: the teacher: its labeler is called with queries and passages.
        others: numbers of unlabelled queries.
    """
    known = pairs()
    some = jnp.asarray(known.queries[rows[:1]]), jnp.asarray(known.passages[:1])
    params = model.init(jax.random.key(seed), *some)
    if path.exists():
        return flax.serialization.from_bytes(params, path.read_bytes())
    optimizer = optax.adam(config.rate)
    step = functools.partial(_step, model, optimizer, settings, guide, others)
    rng = np.random.default_rng([seed, len(rows)])
    epochs = -(-config.steps * config.batch_size // len(rows)) + 1
    order = np.concatenate([rng.permutation(rows) for _ in range(epochs)])
    batches = order[: config.steps * config.batch_size].reshape(config.steps, -1)
    keys = jax.random.split(jax.random.key(seed), config.steps)
    state = jax.jit(lambda *each: jax.lax.scan(step, *each)[0])(
        (params, optimizer.init(params)), (jnp.asarray(batches), keys)
    )
    params = jax.device_get(state[0])
    packed = flax.serialization.to_bytes(params)
    runs.write_atomically(path, lambda draft: draft.write_bytes(packed))
    return params


def _step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    settings: TGTConfig | None,
    guide: tgt.Guide | None,
    others: np.ndarray | None,
    state: tuple,
    batch: tuple[jax.Array, jax.Array],
) -> tuple[tuple, None]:
    """An update: the right passages, and the teacher's word on real and other queries."""
    (params, opt_state), (rows, key) = state, batch
    known = pairs()
    queries = {"real": jnp.asarray(known.queries)[rows]}
    passages = jnp.asarray(known.passages)[jnp.asarray(known.right)[rows]]
    weights: dict[str, float] = {}
    if settings is not None:
        weights = {"real": settings.real}
        labeler = functools.partial(_against, guide.labeler, passages)
        of_batch = tgt.Guide(guide.generator, labeler)
        student = functools.partial(_against, scorer(model, params), passages)
        of_rows, of_noise = jax.random.split(key)
        if settings.unlabelled:
            weights["unlabelled"] = settings.unlabelled
            drawn = jax.random.choice(of_rows, jnp.asarray(others), rows.shape)
            queries["unlabelled"] = jnp.asarray(known.queries)[drawn]
        if settings.generates:
            weights["generated"] = settings.generated
            each, seeds = jax.random.split(of_noise, len(rows)), queries["real"]
            if settings.explore == "mixup":  # with the next query of the batch
                seeds = jnp.concatenate([seeds, jnp.roll(seeds, -1, axis=0)])
            queries["generated"] = explored(settings, of_batch, student, each, seeds, None)
        said = {name: labeler(x) for name, x in queries.items()}

    def objective(params: Any) -> jax.Array:
        scores = {name: model.apply(params, x, passages) for name, x in queries.items()}
        value = tgt.contrastive(scores["real"]).mean()
        for name, weight in weights.items():
            each = tgt.distillation(scores[name], said[name], settings.temperature)
            value += weight * each.mean()
        return value

    slopes = jax.grad(objective)(params)
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(slopes, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), None


def _against(scores: Callable[..., jax.Array], passages: jax.Array, queries: Any) -> jax.Array:
    return scores(queries, passages)


def scorer(model: nn.Module, params: Any) -> Callable[..., jax.Array]:
    """A trained network as a function of queries and passages."""
    return functools.partial(model.apply, params)


def ranked(model: models.DualEncoder, params: Any, part: str) -> dict[str, float]:
    """How well a dual encoder finds the passages of a part's queries among all passages."""
    known = pairs()
    rows = known.parts[part]
    passage = jax.jit(functools.partial(model.apply, params, method="passage"))
    given = jnp.concatenate([passage(x) for x in np.array_split(known.passages, 16)])

    @jax.jit
    def places(queries: jax.Array, right: jax.Array) -> jax.Array:
        return tgt.ranks(model.apply(params, queries, method="query") @ given.T, right)

    pieces = np.array_split(rows, max(1, len(rows) * len(given) // PRODUCTS))
    found = [places(known.queries[piece], known.right[piece]) for piece in pieces]
    return {name: float(x) for name, x in tgt.retrieval_metrics(np.concatenate(found)).items()}


def first_of_batch(scores: Callable[..., jax.Array], part: str) -> float:
    """How often the right passage comes first among those of a batch of a part's pairs."""
    known = pairs()

    @jax.jit
    def share(rows: jax.Array) -> jax.Array:
        passages = jnp.asarray(known.passages)[jnp.asarray(known.right)[rows]]
        found = scores(jnp.asarray(known.queries)[rows], passages)
        return (tgt.ranks(found, jnp.arange(len(rows))) == 1).mean()

    return float(np.mean([share(jnp.asarray(batch)) for batch in _batches(part)]))


def first_by_words(part: str) -> float:
    """The same of TF-IDF with all words that training passages know: what no training gives."""
    found, right = wordnet.glosses(), pairs().right
    known = [found.definitions[row] for row in wordnet.split()[0]]
    weighted = TfidfVectorizer(token_pattern=wordnet.WORD).fit(known)
    shares = []
    for batch in _batches(part):
        queries, passages = (
            weighted.transform([texts[row] for row in right[batch]])
            for texts in (found.examples, found.definitions)
        )
        places = tgt.ranks((queries @ passages.T).toarray(), np.arange(len(batch)))
        shares.append(np.mean(places == 1))
    return float(np.mean(shares))


def _batches(part: str, size: int = 64) -> np.ndarray:
    """Numbers of a part's queries, in rows of as many as can be; the rest is left out."""
    rows = pairs().parts[part]
    size = min(size, len(rows))
    return rows[: len(rows) // size * size].reshape(-1, size)
