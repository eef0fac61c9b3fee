import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature
from ncjax.checks import InputError

PARAMS = {
    "Dense_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "Dense_1": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)},
    "head": [jnp.ones(3)],
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (
            ["Dense_*"],
            {
                "Dense_0": ["Dense_0/bias", "Dense_0/kernel"],
                "Dense_1": ["Dense_1/bias", "Dense_1/kernel"],
            },
        ),
        (
            ["*/kernel"],
            {"Dense_0/kernel": ["Dense_0/kernel"], "Dense_1/kernel": ["Dense_1/kernel"]},
        ),
        (["head", "Dense_1/bias"], {"head": ["head/0"], "Dense_1/bias": ["Dense_1/bias"]}),
    ],
)
def test_a_pattern_makes_a_block_of_each_match(patterns, expected):
    assert curvature.blocks(PARAMS, patterns) == expected


def test_a_pattern_without_a_match_is_refused_with_what_there_is():
    with pytest.raises(InputError, match="`layers`: got 'Conv_\\*'.*Dense_0/bias"):
        curvature.blocks(PARAMS, ["Conv_*"])


def test_exact_paths_are_no_patterns_and_must_be_distinct():
    params = {"a[0]": jnp.ones(2), "a0": jnp.ones(1)}

    def f(tree):
        return (tree["a[0]"] ** 2).sum() + 5 * (tree["a0"] ** 2).sum()

    block, point = curvature.restrict_to(f, params, ["a[0]"])
    np.testing.assert_allclose(curvature.dense_eigenpairs(block, point).eigenvalues, [2, 2])
    with pytest.raises(InputError, match="two leaves of the path a/b"):
        curvature.blocks({"a/b": jnp.ones(2), "a": {"b": jnp.ones(2)}}, "a/b")


def test_a_restricted_operator_is_the_diagonal_block(classifier):
    whole = curvature.data_hessian(classifier.losses, classifier.data, batch_size=5)
    H = curvature.hessian_matrix(whole, classifier.params)
    for pattern, part in [("first", slice(0, 20)), ("*/kernel", slice(0, 35))]:
        block, point = curvature.restrict(whole, classifier.params, pattern)
        np.testing.assert_allclose(
            curvature.hessian_matrix(block, point), H[part, part], rtol=1e-10, atol=1e-14
        )
    assert list(point) == ["first/kernel", "head/kernel"]


def test_a_restricted_operator_moves_only_its_own_layers(classifier):
    block, point = curvature.restrict(classifier.mean_loss, classifier.params, "head")
    way = curvature.escape(block, point)
    moved = {**classifier.params, "head": {"kernel": way.params["head/kernel"]}}
    np.testing.assert_allclose(way.values[-1], classifier.mean_loss(moved), rtol=1e-10)
    assert way.converged
    gradient = jax.grad(classifier.mean_loss)(moved)
    assert float(jnp.abs(gradient["head"]["kernel"]).max()) < 1e-6
