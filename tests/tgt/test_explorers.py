import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import tgt
from tests.tgt.linear import Linear, Spelled, keys, labeler, read, student, texts, x

climb = functools.partial(tgt.gradient, generator=Linear(), student=student, labeler=labeler)


def disagreement(points):
    return np.asarray(tgt.disagreement(student(points), labeler(points)))


def test_each_step_up_the_gradient_raises_disagreement():
    paths = [climb(keys, x, steps=steps, length=0.05, radius=0.2) for steps in range(4)]
    values = np.stack([disagreement(found.x) for found in paths])
    assert (np.diff(values, axis=0) > 0).all()
    random = tgt.random(keys, x, Linear(), radius=0.2)
    np.testing.assert_allclose(paths[0].x, random.x, rtol=1e-6)


def test_steps_have_the_length_that_is_asked_for():
    start, end = (climb(keys, x, steps=steps, length=0.3).z for steps in (0, 1))
    moved = np.linalg.norm(np.asarray(end - start) / Linear().scale, axis=1)
    np.testing.assert_allclose(moved, 0.3, rtol=1e-4)


def test_a_step_without_slope_stays_where_it_is():
    same = functools.partial(tgt.gradient, student=labeler, labeler=labeler)
    found = same(keys, x, Linear(), radius=0.0, steps=2)
    np.testing.assert_allclose(found.z, found.start, rtol=1e-6)


@pytest.mark.parametrize("explore", [climb, functools.partial(tgt.random, generator=Linear())])
def test_points_stay_in_range_unless_the_seed_is_further_out(explore):
    far = 5 * x
    found = explore(keys, far, radius=3.0, bound=1.5)
    seeds = np.abs(np.asarray(found.start)) / Linear().scale
    assert (np.abs(np.asarray(found.z)) / Linear().scale <= np.maximum(seeds, 1.5) + 1e-5).all()
    assert (seeds > 1.5).any()


@pytest.mark.parametrize("explore", [climb, functools.partial(tgt.random, generator=Linear())])
def test_an_example_is_explored_alike_in_any_batch(explore):
    whole, part = explore(keys, x).x, explore(keys[3:5], x[3:5]).x
    np.testing.assert_allclose(whole[3:5], part, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(whole, explore(keys, x).x)
    jitted = jax.jit(lambda keys, x: explore(keys, x).x)(keys, x)
    np.testing.assert_allclose(jitted, whole, rtol=1e-5, atol=1e-6)


def test_noise_is_isotropic_in_standard_deviations_of_the_latent_space():
    many = jax.random.split(jax.random.key(1), 4000)
    seeds = np.zeros((4000, 4), np.float32)
    found = tgt.random(many, seeds, Linear(), radius=0.5, bound=10)
    np.testing.assert_allclose(np.cov(np.asarray(found.z).T), np.diag([0.25, 1.0]), atol=0.05)
    drawn = tgt.prior(many, Linear())
    np.testing.assert_allclose(np.cov(np.asarray(drawn.z).T), np.diag([1.0, 4.0]), atol=0.2)
    np.testing.assert_array_equal(drawn.x, Linear().decode(drawn.z))


def test_input_noise_goes_as_far_as_the_latent_noise_does():
    noisy = tgt.input_noise(keys, x, Linear(), radius=0.5)
    away = tgt.random(keys, x, Linear(), radius=0.5).x - x
    norms = [np.linalg.norm(part, axis=1) for part in (noisy - x, away)]
    np.testing.assert_allclose(*norms, rtol=1e-4)


def test_mixup_lies_between_its_pairs():
    mixed = tgt.mixup(keys, x, x[::-1], alpha=1.0)
    share = (np.asarray(mixed - x[::-1]) / (x - x[::-1])).mean(1)
    np.testing.assert_allclose(
        mixed, share[:, None] * x + (1 - share)[:, None] * x[::-1], atol=1e-4
    )
    assert 0 <= share.min() < share.max() <= 1


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_mixed_texts_have_words_of_both_with_odds_drawn_from_the_beta_distribution(alpha):
    ones, twos = (np.full((2000, 40), word, np.int32) for word in (1, 2))
    many = jax.random.split(jax.random.key(1), 2000)
    mixed = np.asarray(tgt.mixup(many, ones, twos, alpha=alpha))
    assert mixed.dtype == np.int32
    own = (mixed == 1).mean(1)
    assert set(np.unique(mixed)) == {1, 2}
    within = 1 / (4 * 40) * (1 - 1 / (2 * alpha + 1))
    np.testing.assert_allclose(own.mean(), 0.5, atol=0.05)
    np.testing.assert_allclose(own.var(), 1 / (4 * (2 * alpha + 1)) + within, rtol=0.1)


def test_no_gradient_passes_what_is_explored():
    def through(scale):
        own = functools.partial(lambda x, s: s * student(x), s=scale)
        return climb(keys, x, student=own).x.sum()

    assert jax.grad(through)(jnp.float32(1.0)) == 0


def test_texts_are_explored_relaxed_and_come_back_as_texts():
    def reader(x):
        return jnp.roll(read(x), 1, axis=-1)

    near = tgt.random(keys, texts, Spelled(), radius=0.01)
    np.testing.assert_array_equal(near.x, texts)
    far = tgt.gradient(keys, texts, Spelled(), reader, read, radius=0.4, length=0.4, steps=3)
    assert far.x.dtype == texts.dtype
    assert far.x.shape == texts.shape
    relaxed = (Spelled().decode(z) for z in (near.z, far.z))
    before, after = (np.asarray(tgt.disagreement(reader(p), read(p))) for p in relaxed)
    assert after.mean() > before.mean()


def test_noise_replaces_as_many_words_as_exploring_does():
    many = jax.random.split(jax.random.key(2), 600)
    seeds = np.tile(texts, (50, 1))
    moved = np.asarray(tgt.random(many, seeds, Spelled(), radius=0.5).x) != seeds
    noisy = np.asarray(tgt.input_noise(many, seeds, Spelled(), radius=0.5)) != seeds
    assert (noisy.sum(1) <= moved.sum(1)).all()
    # A word that is drawn is the same again once in five times.
    assert noisy.mean() == pytest.approx(0.8 * moved.mean(), rel=0.1)
    np.testing.assert_allclose(noisy.mean(0), noisy.mean(), rtol=0.2)
