import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import curvature, frames, losses
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


def dense_parts(classifier):
    """G and its part between classes, from explicit Jacobians and square roots."""
    flat, unravel = jax.flatten_util.ravel_pytree(classifier.params)
    J = jax.jit(jax.jacobian(lambda v: classifier.outputs(unravel(v), classifier.x)))(flat)
    p = jax.nn.softmax(classifier.outputs(classifier.params, classifier.x))
    D = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
    values, vectors = np.linalg.eigh(D)
    roots = vectors * np.sqrt(np.maximum(values, 0))[:, None] @ vectors.transpose(0, 2, 1)
    x = np.einsum("nkp,nkj->njp", J, roots)
    y, N = np.asarray(classifier.y), len(classifier.y)
    G = np.einsum("njp,njq->pq", x, x) / N
    means = np.stack([x[y == c].mean(0) * np.sqrt((y == c).sum() / N) for c in range(3)])
    means = means.reshape(9, -1)
    return G, means.T @ means, J, p


@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_parts_are_those_of_the_dense_decomposition(classifier, batch_size):
    G, between, J, p = dense_parts(classifier)
    found = curvature.class_structure(
        classifier.outputs,
        losses.cross_entropy,
        classifier.params,
        *classifier.data,
        3,
        k=6,
        batch_size=batch_size,
    )
    spectrum = np.linalg.eigvalsh(G)[::-1]
    np.testing.assert_allclose(found.eigenvalues, spectrum[:6], rtol=1e-9)
    np.testing.assert_allclose(found.between, np.linalg.eigvalsh(between)[::-1][:9], atol=1e-12)
    edge = np.linalg.eigvalsh(G - between)[-1]
    np.testing.assert_allclose(found.bulk_edge, edge, rtol=1e-9)
    assert found.outliers == (spectrum[:6] > edge).sum()
    share = np.trace(between) / np.trace(G)
    assert abs(found.between_share - share) < 4 * found.between_share_error
    slopes = np.einsum("nkp,nk->np", J, p - np.eye(3)[classifier.y])
    leading = np.linalg.eigh(G)[1][:, -3:]
    for c in range(3):
        g = slopes[np.asarray(classifier.y) == c].mean(0)
        cosine = np.linalg.norm(leading.T @ g) / np.linalg.norm(g)
        np.testing.assert_allclose(found.alignment[c], cosine, rtol=1e-8)


def test_under_exact_collapse_nothing_remains_within_classes_and_the_outliers_are_the_classes():
    labels = jnp.arange(20) % 4
    means = frames.simplex_etf(num_classes=4, dim=6, key=jax.random.key(0))
    found = curvature.class_structure(
        lambda W, x: x @ W.T, losses.cross_entropy, 3 * means, means[labels], labels, 4, k=12
    )
    np.testing.assert_allclose(found.bulk_edge, 0, atol=1e-12)
    np.testing.assert_allclose(found.alignment, 1, rtol=1e-9)
    # K - 1 logit directions times K - 1 feature directions stand clear of an empty bulk.
    assert found.outliers == 9


def test_a_loss_that_needs_its_batch_axis_and_a_network_without_slopes_are_served(classifier):
    def loss(logits, labels):
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

    zero = jax.tree.map(jnp.zeros_like, classifier.params)
    found = curvature.class_structure(classifier.outputs, loss, zero, *classifier.data, 3, k=2)
    for value in vars(found).values():
        assert jnp.isfinite(value).all()
    assert (found.outliers, found.between_share) == (0, 0)


@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name(classifier):
    outputs, params, (x, y) = classifier.outputs, classifier.params, classifier.data
    with pytest.raises(InputError, match="`labels`: got no sample of class 3"):
        curvature.class_structure(outputs, losses.cross_entropy, params, x, y, 4)
    with pytest.raises(InputError, match="`labels`"):
        curvature.class_structure(outputs, losses.cross_entropy, params, x, y, 2)
    with pytest.raises(InputError, match="`loss`: got a loss that is concave"):
        curvature.class_structure(outputs, losses.get("focal", gamma=3.0), params, x, y, 3)
