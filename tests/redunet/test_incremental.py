import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.redunet import from_spectra, rate_reduction, to_spectra
from ncjax.redunet.groups import places_of
from ncjax.redunet.incremental import class_covariances, construct_from_covariances
from ncjax.redunet.layers import LayerConfig, normalised

pytestmark = pytest.mark.usefixtures("x64")
CONFIG = LayerConfig(eps=0.1**0.5, step=0.5)
LAYERS, K = 20, 4


def case(shape):
    """Normalised spectra and labels of four unequal classes, each near a plane of its own."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(K), [5, 7, 6, 9])
    features = rng.normal(size=(len(labels), *shape))
    features += 3 * rng.normal(size=(K, *shape))[labels]
    return normalised(to_spectra(features)), labels


def joint_by_samples(spectra, labels):
    """Layers built from the samples themselves: true labels, normalisation class by class."""
    z, found = np.asarray(spectra.values), []
    N, C = z.shape[1:]
    weights = np.asarray(spectra.square_weights)
    for _ in range(LAYERS):
        inverse = lambda v, n: (  # noqa: E731
            C
            / (n * CONFIG.eps**2)
            * np.linalg.inv(np.eye(C) + C / (n * CONFIG.eps**2) * v.swapaxes(1, 2) @ v.conj())
        )
        E, after = inverse(z, N), np.empty_like(z)
        compression = []
        for k in range(K):
            own = z[:, labels == k]
            compression.append(inverse(own, own.shape[1]))
            move = np.eye(C) + CONFIG.step * (E - own.shape[1] / N * compression[-1])
            moved = own @ move.swapaxes(1, 2)
            size = weights @ np.square(np.abs(moved)).sum((1, 2))
            after[:, labels == k] = moved * np.sqrt(own.shape[1] / size)
        found.append((E, np.array(compression)))
        z = after
    return found


@pytest.mark.parametrize("shape", [(6,), (4, 3)], ids=["vectors", "signals"])
def test_covariances_alone_give_the_network_of_the_samples(shape):
    spectra, labels = case(shape)
    kept = class_covariances(spectra, places_of(labels, K))
    built, monitor = construct_from_covariances(kept, spectra.square_weights, CONFIG, LAYERS)
    for i, (E, compression) in enumerate(joint_by_samples(spectra, labels)):
        np.testing.assert_allclose(built.expansion[i], E, rtol=1e-10, atol=1e-10)
        scaled = built.alphas[i][:, None, None, None].astype(built.compression.dtype)
        np.testing.assert_allclose(
            scaled * built.compression[i], compression, rtol=1e-10, atol=1e-10
        )
    expected = rate_reduction(from_spectra(spectra), labels, CONFIG.eps)
    np.testing.assert_allclose(monitor.reduction[0], expected, rtol=1e-10)
    assert monitor.agreement is None


def test_samples_may_come_in_any_portions():
    spectra, labels = case((6,))
    joint = class_covariances(spectra, places_of(labels, K))
    rows = np.random.default_rng(1).permutation(len(labels))
    kept = None
    for part in np.array_split(rows, 5):
        some = spectra.replace(spectra.values[:, part])
        new = class_covariances(some, places_of(labels[part], K))
        kept = new if kept is None else kept.merge(new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), kept, joint)
    early = labels < 2
    some, rest = (spectra.replace(spectra.values[:, rows]) for rows in (early, ~early))
    first = class_covariances(some, places_of(labels[early], 2)).among(jnp.arange(2), K)
    later = first.merge(class_covariances(rest, places_of(labels[~early], K)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), later, joint)
