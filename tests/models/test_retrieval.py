import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import models

rng = np.random.default_rng(0)
queries = rng.integers(1, 9, (6, 5)).astype(np.int32)
queries[2:, 3:] = 0
passages = rng.integers(1, 9, (4, 7)).astype(np.int32)
passages[1:, 4:] = 0
both = pytest.mark.parametrize("kind", [models.DualEncoder, models.CrossEncoder])


@both
def test_scores_are_of_each_pair_alone(kind):
    model = kind(9, dim=8)
    scores, variables = model.init_with_output(jax.random.key(0), queries, passages)
    assert scores.shape == (6, 4)
    one = model.apply(variables, queries[2:3], passages[3:4])
    np.testing.assert_allclose(one[0, 0], scores[2, 3], rtol=1e-4, atol=1e-6)


@both
def test_padding_says_nothing_and_relaxed_queries_are_read(kind):
    model = kind(9, dim=8)
    scores, variables = model.init_with_output(jax.random.key(0), queries, passages)
    longer = (np.pad(x, ((0, 0), (0, 3))) for x in (queries, passages))
    np.testing.assert_allclose(model.apply(variables, *longer), scores, rtol=1e-4, atol=1e-5)
    relaxed = jax.nn.one_hot(queries, 9)
    np.testing.assert_allclose(
        model.apply(variables, relaxed, passages), scores, rtol=1e-4, atol=1e-5
    )
    slope = jax.grad(lambda x: model.apply(variables, x, passages)[:, 0].sum())(relaxed)
    assert np.abs(slope).max() > 0
    empty = np.zeros((1, 5), np.int32)
    assert np.isfinite(model.apply(variables, empty, passages)).all()
    assert np.isfinite(model.apply(variables, queries, empty)).all()


def test_a_dual_encoder_is_an_inner_product_of_unit_vectors():
    model = models.DualEncoder(9, dim=8)
    scores, variables = model.init_with_output(jax.random.key(0), queries, passages)
    asked = model.apply(variables, queries, method="query")
    given = model.apply(variables, passages, method="passage")
    np.testing.assert_allclose(jnp.linalg.norm(asked, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(2.0) * asked @ given.T, scores, rtol=1e-4, atol=1e-5)


@both
def test_before_training_shared_words_count_and_rare_ones_more(kind):
    model = kind(1000, dim=256)
    asked = np.array([[10, 900]], np.int32)
    given = np.array([[900, 500], [10, 500], [400, 500]], np.int32)
    scores, _ = model.init_with_output(jax.random.key(0), asked, given)
    rare, frequent, neither = scores[0]
    assert rare > frequent + 0.1
    assert frequent > neither + 0.1
