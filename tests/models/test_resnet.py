import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import models
from ncjax.checks import InputError


def parameters(model, shape=(1, 32, 32, 3)):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("depth", "stem", "settings", "count"),
    [
        (18, "cifar", {}, 11_173_962),
        (18, "cifar", {"feature_dim": 10, "head": "etf"}, 8_859_762),
        (50, "cifar", {}, 23_520_842),
        (50, "cifar", {"feature_dim": 10, "head": "etf"}, 22_473_330),
        (34, "imagenet", {"num_classes": 1000}, 21_797_672),  # torchvision's
        (50, "imagenet", {"num_classes": 1000}, 25_557_032),
    ],
)
def test_parameters_are_as_many_as_in_the_papers_and_in_torchvision(depth, stem, settings, count):
    model = models.ResNet(**({"num_classes": 10} | settings), depth=depth, stem=stem)
    assert parameters(model) == count


def test_inner_width_leaves_the_features_alone():
    narrow, wide = (models.ResNet(10, 50, width=8, inner=inner) for inner in (0.5, 2.0))
    assert parameters(wide) > 4 * parameters(narrow)
    x = jnp.zeros((2, 16, 16, 3))
    for model in (narrow, wide):
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        _, features = jax.eval_shape(model.apply, variables, x)
        assert features.shape == (2, 256)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_features_are_means_and_what_is_inside_can_be_seen(dtype):
    model = models.ResNet(3, width=4, feature_dim=5, dtype=dtype)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(variables)}
    assert dtypes == {np.dtype("float32")}
    apply = jax.jit(lambda variables: model.apply(variables, x, mutable=["intermediates"]))
    (logits, features), seen = apply(variables)
    assert (logits.shape, features.shape) == ((4, 3), (4, 5))
    assert logits.dtype == features.dtype == jnp.float32
    assert features.min() >= 0
    stages = seen["intermediates"]
    last = stages["stage_3"][0]
    assert last.dtype == dtype
    np.testing.assert_allclose(last.mean((1, 2)).astype(jnp.float32), features, rtol=2e-2)
    assert stages["stage_0"][0].shape == (4, 8, 8, 4)


@pytest.mark.usefixtures("no_type_checks")
def test_depths_and_stems_that_do_not_exist_are_refused():
    x = jnp.zeros((1, 8, 8, 1))
    with pytest.raises(InputError, match="`depth`.*18, 34, 50"):
        models.ResNet(3, 20).init(jax.random.key(0), x)
    with pytest.raises(InputError, match="`stem`.*Did you mean 'cifar'"):
        models.ResNet(3, 18, stem="cifra").init(jax.random.key(0), x)
