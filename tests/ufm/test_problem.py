import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from ncjax import ufm
from ncjax.checks import InputError
from ncjax.ufm.problem import norm


def test_the_objective_is_that_of_the_paper():
    problem = ufm.Problem(3, 4, 2, "cross_entropy", 0.3, 0.2, 0.1)
    p = ufm.init(jax.random.key(0), problem)
    p = ufm.Params(p.W, p.H, jnp.array([0.5, -1.0, 2.0]))
    W, H, b = np.asarray(p.W), np.asarray(p.H).T, np.asarray(p.b)  # the paper's H is d x N
    Z = W @ H + b[:, None]
    labels = [0, 0, 1, 1, 2, 2]
    loss = np.mean([scipy.special.logsumexp(Z[:, i]) - Z[y, i] for i, y in enumerate(labels)])
    decay = 0.3 / 2 * (W**2).sum() + 0.2 / 2 * (H**2).sum() + 0.1 / 2 * (b**2).sum()
    np.testing.assert_allclose(ufm.objective(p, problem), loss + decay, rtol=1e-14)


def test_lambdas_and_hyperparameters_may_be_batched():
    params = ufm.init(jax.random.key(0), ufm.Problem(3, 4, 2, "focal", 0.1, 0.1, 0.1))

    def value(decay, gamma):
        return ufm.objective(
            params, ufm.Problem(3, 4, 2, "focal", decay, 0.1, 0.1, {"gamma": gamma})
        )

    decays, gammas = jnp.array([0.1, 0.2]), jnp.array([1.0, 2.0])
    swept = jax.vmap(value)(decays, gammas)
    np.testing.assert_allclose(swept, [value(0.1, 1.0), value(0.2, 2.0)], rtol=1e-14)


def test_a_loss_of_ones_own_is_taken():
    def own(z, y):
        return jnp.square(z).sum(-1) - jnp.take_along_axis(z, y[..., None], -1)[..., 0]

    problem = ufm.Problem(3, 4, 2, own, 0.1, 0.1, 0.1)
    zero = ufm.Params(jnp.zeros((3, 4)), jnp.zeros((6, 4)), jnp.ones(3))
    np.testing.assert_allclose(ufm.objective(zero, problem), 3 - 1 + 0.15)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 4, 2, "cross_entropy", 0.1, 0.1, 0.1), "`num_classes`.*got 1"),
        ((3, 0, 2, "cross_entropy", 0.1, 0.1, 0.1), "`feature_dim`"),
        ((3, 4, 2.5, "cross_entropy", 0.1, 0.1, 0.1), "`samples_per_class`.*integer"),
        ((3, 4, (2, 0, 1), "cross_entropy", 0.1, 0.1, 0.1), "`samples_per_class`.*got 0"),
        ((3, 4, (2, 1), "cross_entropy", 0.1, 0.1, 0.1), r"`samples_per_class`.*\(2,\).*\[K\]"),
        ((3, 4, 2, "hinge", 0.1, 0.1, 0.1), "`loss`.*'cross_entropy'"),
        ((3, 4, 2, "cross_entropy", -0.1, 0.1, 0.1), "`lambda_w`.*-0.1.*greater than 0"),
        ((3, 4, 2, "cross_entropy", 0.1, 0.0, 0.1), "`lambda_h`.*greater than 0"),
        ((3, 4, 2, "cross_entropy", 0.1, 0.1, -1e-9), "`lambda_b`.*at least 0"),
        ((3, 4, 2, "cross_entropy", float("nan"), 0.1, 0.1), "`lambda_w`"),
        ((3, 4, 2, "focal", 0.1, 0.1, 0.1, {"gama": 1.0}), "gama.*gamma"),
    ],
)
def test_bad_problems_are_refused_by_name(arguments, message):
    with pytest.raises(InputError, match=message):
        ufm.Problem(*arguments)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("function", [ufm.certify, ufm.solve, ufm.lower_bound])
def test_params_of_another_problem_are_refused_by_name(function):
    problem = ufm.Problem(3, 4, 2, "cross_entropy", 0.1, 0.1, 0.1)
    good = ufm.init(jax.random.key(0), problem)
    with pytest.raises(InputError, match=r"`params.H`.*\(4, 6\).*\[N, d\]"):
        function(ufm.Params(good.W, good.H.T, good.b), problem)
    with pytest.raises(InputError, match=r"`params.W`.*NaN"):
        function(ufm.Params(good.W.at[1, 2].set(jnp.nan), good.H, good.b), problem)


def test_a_compact_point_has_the_objective_gradient_and_norm_of_its_whole():
    for sizes in (3, (2, 1, 4)):
        problem = ufm.Problem(3, 5, sizes, "focal", 0.1, 0.2, 0.3, {"gamma": 2.0})
        compact = ufm.init(jax.random.key(0), problem, compact=True)
        whole = ufm.expand(compact, problem)
        assert whole.H.shape == (problem.num_samples, 5)
        value = jax.jit(ufm.objective)(whole, problem)
        np.testing.assert_allclose(jax.jit(ufm.objective)(compact, problem), value, rtol=1e-14)
        direction, expected = (jax.jit(ufm.gradient)(point, problem) for point in (compact, whole))
        expanded = ufm.expand(direction, problem)
        for one, two in zip(jax.tree.leaves(expanded), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-15)
        np.testing.assert_allclose(
            norm(direction, problem), norm(ufm.expand(direction, problem), problem), rtol=1e-14
        )


def test_equal_sizes_are_one_number_and_traced_ones_need_compact_points():
    assert ufm.Problem(3, 4, (2, 2, 2), "mse", 0.1, 0.1, 0.1).samples_per_class == 2
    problem = ufm.Problem(3, 4, jnp.asarray(2), "mse", 0.1, 0.1, 0.1)
    compact = ufm.init(jax.random.key(0), problem, compact=True)
    with pytest.raises(InputError, match="`samples_per_class`.*expand"):
        ufm.expand(compact, problem)
