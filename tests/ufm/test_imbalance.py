import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import frames, ufm
from ncjax.checks import InputError
from ncjax.curvature import Verdict

GROUPS = ((2, 4), (3, 3), (2, 2, 2), (4, 2), (1, 2, 3), (1, 1, 4), (1, 5), (6,))
MU = 10.0 ** -np.arange(3, 10)


def solved(problem, key):
    start = ufm.problem.init(key, problem, compact=True)
    found = ufm.solve(start, problem, max_steps=300, gradient_tol=1e-11)
    return found.params, ufm.certify(found.params, problem).verdict


@functools.partial(jax.jit, static_argnums=0)
def solved_all(loss, sizes, lambda_w, lambda_h, lambda_b, hyperparameters):
    def one(key, *arguments):
        sizes, lambda_w, lambda_h, lambda_b, hyperparameters = arguments
        K = len(sizes)
        problem = ufm.Problem(K, K, sizes, loss, lambda_w, lambda_h, lambda_b, hyperparameters)
        return (*solved(problem, key), ufm.merging_size(problem))

    keys = jax.random.split(jax.random.key(0), len(lambda_w))
    return jax.vmap(one)(keys, sizes, lambda_w, lambda_h, lambda_b, hyperparameters)


@pytest.mark.parametrize(
    ("loss", "hyperparameter", "slope"),
    [
        ("cross_entropy", None, np.ones_like),
        ("label_smoothing", "smoothing", lambda x: 1 - x),
        ("mse", "target", lambda x: x),
    ],
)
def test_classes_of_one_size_merge_at_the_certified_minimum_exactly_up_to_the_threshold(
    loss, hyperparameter, slope
):
    rng = np.random.default_rng(0)
    cases = []
    for number in range(48):
        groups = GROUPS[number % len(GROUPS)]
        of_class = np.repeat(np.arange(len(groups)), groups)
        sizes = rng.permutation(rng.integers(1, 300, len(groups))).astype(float)[of_class]
        # Near the threshold of one group, on either side: the largest, the smallest, or another.
        aimed = rng.choice(np.flatnonzero(np.bincount(of_class)[of_class] > 1))
        value = rng.uniform(0.05, 0.5)
        near = rng.choice([0.3, 0.9, 0.995, 1.005, 1.1, 2.0])
        mu = near * slope(value) * np.sqrt(sizes[aimed]) / sizes.sum()
        ratio = 10 ** rng.uniform(-1, 1)
        lambda_b = 0.0 if number % 3 == 0 else 10 ** rng.uniform(-4, 0)
        cases.append((of_class, sizes, mu * ratio, mu / ratio, lambda_b, value))
    of_class, sizes, *lambdas, values = map(np.array, zip(*cases, strict=True))
    hyperparameters = {} if hyperparameter is None else {hyperparameter: values}
    params, verdicts, threshold = solved_all(loss, sizes, *lambdas, hyperparameters)
    assert (verdicts == Verdict.GLOBAL_MINIMIZER).all()
    merged, predicted = [], []
    for number, groups in enumerate(of_class):
        # Where all classes merge W is nothing but what the solver leaves, about 1e-8.
        unit = np.abs(params.W[number]).max() + 1e-4
        for group in np.unique(groups):
            members = groups == group
            if members.sum() > 1:
                rows = params.W[number][members] / unit
                merged.append(np.ptp(rows, axis=0).max() < 1e-3)
                predicted.append(sizes[number][members][0] <= threshold[number])
                if merged[-1]:
                    np.testing.assert_allclose(np.ptp(params.b[number][members]), 0, atol=1e-6)
                    features = params.H[number][members]
                    np.testing.assert_allclose(np.ptp(features, axis=0), 0, atol=1e-4)
    assert merged == predicted
    assert 20 < sum(merged) < len(merged) - 20


def test_equal_classes_merge_where_everything_is_known_to_collapse():
    problem = ufm.Problem(5, 5, 20, "cross_entropy", 3e-3, 2e-3, 0.1)
    threshold = ufm.merging_size(problem) / 20
    np.testing.assert_allclose(threshold, (5 * problem.tau) ** 2)


def test_merged_classes_need_fewer_feature_dimensions_than_the_simplex():
    sizes = (400, 400, 3, 3, 3, 3)
    problem = ufm.Problem(6, 2, sizes, "cross_entropy", 3e-3, 3e-3, 0.1)
    assert ufm.merging_size(problem) > 3
    keys = jax.random.split(jax.random.key(0), 4)
    _, verdicts = jax.jit(jax.vmap(lambda key: solved(problem, key)))(keys)
    assert (verdicts == Verdict.GLOBAL_MINIMIZER).any()


def test_the_collapse_ratio_is_the_last_ratio_at_which_the_minority_has_not_merged():
    n, majority, ratios = 100, 2, np.geomspace(1, 1e5, 4001)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def merges(mu, ratio):
        sizes = jnp.where(np.arange(7) < majority, n, n / ratio)
        problem = ufm.Problem(7, 7, sizes, "label_smoothing", mu, mu, 0.1)
        return n / ratio <= ufm.merging_size(problem)

    @jax.jit
    @jax.vmap
    def last_ratio(mu):
        return ufm.collapse_ratio(ufm.Problem(7, 7, n, "label_smoothing", mu, mu, 0.1), majority)

    mus = np.geomspace(2e-4, 0.05, 120)
    merged, last = np.asarray(merges(mus, ratios)), np.asarray(last_ratio(mus))
    assert (merged | (ratios[None, :] < last[:, None])).all()
    for row, ratio in zip(merged, last, strict=True):
        if ratio > 1:
            assert not row[np.searchsorted(ratios, ratio) - 1]
    # Every case of the quadratic was there: from some ratio on, near 1 too, always.
    assert (last == 1).any()
    assert (merged[:, 0] & (last > 1)).any()


def test_thresholds_map_over_problems_and_have_derivatives():
    def size(lambda_w):
        return ufm.merging_size(ufm.Problem(4, 4, (9, 9, 2, 2), "mse", lambda_w, 1e-3, 0.1))

    def ratio(lambda_w):
        return ufm.collapse_ratio(ufm.Problem(6, 6, 100, "cross_entropy", lambda_w, 1e-3, 0.1))

    lambdas = jnp.array([1e-3, 2e-3])
    np.testing.assert_allclose(jax.vmap(size)(lambdas), [size(x) for x in lambdas])
    np.testing.assert_allclose(jax.grad(size)(1e-3), size(1e-3) / 1e-3)
    step = 1e-7
    slope = (ratio(1e-3 + step) - ratio(1e-3 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(jax.jit(ratio))(1e-3), slope, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(3, 2, 1), (7, 7, 2, 2, 1)])
def test_seli_is_the_singular_value_decomposition_of_the_encoded_labels(sizes):
    K = len(sizes)
    labels = np.repeat(np.eye(K), sizes, axis=1)
    V, singular, Ut = np.linalg.svd(labels - labels.mean(0), full_matrices=False)
    geometry = ufm.seli(jnp.array(sizes, float))
    classifier, features = (V * singular) @ V.T, (Ut.T * singular) @ Ut
    np.testing.assert_allclose(
        geometry.classifier, classifier / np.linalg.norm(classifier), atol=1e-12
    )
    first = np.cumsum(sizes) - sizes
    means = features[np.ix_(first, first)]
    np.testing.assert_allclose(geometry.class_means, means / np.linalg.norm(means), atol=1e-12)


@pytest.mark.parametrize("free_bias", [False, True])
def test_equal_classes_have_the_simplex_etf_as_their_seli(free_bias):
    geometry = ufm.seli(jnp.full(4, 7.0), free_bias)
    assert frames.distance_to_simplex_etf(geometry.classifier) < 1e-12
    assert frames.distance_to_simplex_etf(geometry.class_means) < 1e-12


@pytest.mark.parametrize("lambda_b", [0.0, 0.1])
def test_minimisers_of_cross_entropy_approach_seli_like_the_inverse_logarithm_of_decay(lambda_b):
    def distances(mu):
        sizes = jnp.array([100.0, 100.0, 30.0, 10.0, 1.0])
        problem = ufm.Problem(5, 5, sizes, "cross_entropy", 2 * mu, mu / 2, lambda_b)
        params, verdict = solved(problem, jax.random.key(0))
        return verdict, jnp.stack(ufm.seli_distance(params, problem))

    verdicts, found = jax.jit(jax.vmap(distances))(MU)
    assert (verdicts == Verdict.GLOBAL_MINIMIZER).all()
    assert (np.diff(found, axis=0) < 0).all()
    scaled = found * np.log(1 / MU)[:, None]
    assert (np.abs(scaled[-1] / scaled[-3] - 1) < 0.05).all()
    # Towards the other geometry there is no such approach.
    other = ufm.seli(jnp.array([100.0, 100.0, 30.0, 10.0, 1.0]), lambda_b > 0).class_means
    own = ufm.seli(jnp.array([100.0, 100.0, 30.0, 10.0, 1.0]), lambda_b == 0).class_means
    assert frames.gram_distance(own, other) > 3 * found[-1, 1]


@pytest.mark.parametrize(
    ("loss", "lambda_b"), [("label_smoothing", 0.1), ("label_smoothing", 0.0), ("mse", 0.0)]
)
def test_losses_with_finite_targets_approach_it_in_proportion_to_decay(loss, lambda_b):
    def distances(mu):
        problem = ufm.Problem(4, 4, (50, 50, 10, 2), loss, mu, mu, lambda_b)
        params, verdict = solved(problem, jax.random.key(1))
        whole = ufm.expand(params, problem)
        assert whole.H.shape == (112, 4)
        return verdict, jnp.stack(
            [*ufm.seli_distance(params, problem), *ufm.seli_distance(whole, problem)]
        )

    verdicts, found = jax.jit(jax.vmap(distances))(np.array([1e-5, 1e-6]))
    assert (verdicts == Verdict.GLOBAL_MINIMIZER).all()
    np.testing.assert_allclose(found[0] / found[1], 10, rtol=0.05)
    np.testing.assert_allclose(found[:, :2], found[:, 2:], rtol=1e-9)


def problem(sizes=(9, 9, 2, 2), loss="cross_entropy", **hyperparameters):
    return ufm.Problem(4, 4, sizes, loss, 1e-3, 1e-3, 0.1, hyperparameters)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ufm.merging_size(problem(loss="focal")), "`problem.loss`.*'focal'"),
        (lambda: ufm.merging_size(problem(loss="mse", scale=5.0)), "`scale`.*5.0.*must be 1"),
        (lambda: ufm.collapse_ratio(problem(9), 3), "`num_majority`.*got 3.*at most 2"),
        (lambda: ufm.collapse_ratio(problem()), "`samples_per_class`.*one number"),
        (lambda: ufm.seli(jnp.array([2.0, 0.0])), "`class_sizes`"),
        (lambda: ufm.seli(jnp.array([2.0])), "`number of class_sizes`"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_what_has_no_threshold_is_refused_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_traced_scale_other_than_one_has_no_threshold_but_nan():
    sizes = jax.jit(lambda scale: ufm.merging_size(problem(loss="mse", scale=scale)))
    assert np.isnan(sizes(2.0))
    assert np.isfinite(sizes(1.0))
