import numpy as np
import scipy.sparse
from scipy.linalg import block_diag

from ncjax.senet.spectral import embedding_of, leading_eigenvectors, spectral_clusters

RNG = np.random.default_rng(0)


def test_parts_of_a_graph_are_its_clusters():
    sizes = (7, 9, 12)
    blocks = [np.ones((n, n)) - np.eye(n) for n in sizes]
    labels = np.repeat(np.arange(3), sizes)
    order = RNG.permutation(len(labels))
    affinity = block_diag(*blocks)[order][:, order]
    found = spectral_clusters(*leading_eigenvectors(scipy.sparse.csr_array(affinity), 3), 3)
    pairs = set(zip(labels[order].tolist(), found.tolist(), strict=True))
    assert len(pairs) == 3
    embedding = embedding_of(*leading_eigenvectors(affinity, 3))
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1)


def test_many_points_are_embedded_as_few():
    affinity = np.abs(RNG.normal(size=(40, 40)))
    affinity += affinity.T
    np.fill_diagonal(affinity, 0)
    found = embedding_of(*leading_eigenvectors(scipy.sparse.csr_array(affinity), 3))
    assert found.shape == (40, 3)
    degrees = affinity.sum(1)
    matrix = affinity / np.sqrt(degrees[:, None] * degrees[None, :])
    expected = np.linalg.eigh(matrix)[1][:, -3:]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-8)


def test_points_without_a_neighbour_do_not_lead():
    affinity = block_diag(
        np.ones((9, 9)) - np.eye(9), np.ones((7, 7)) - np.eye(7), np.zeros((3, 3))
    )
    found = embedding_of(*leading_eigenvectors(scipy.sparse.csr_array(affinity), 2))
    np.testing.assert_allclose(found[16:], 0)
    np.testing.assert_allclose(np.abs(found[:9] @ found[9:16].T), 0, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(found[:16], axis=1), 1)


def test_diffusion_weighs_eigenvectors_by_powers_of_their_eigenvalues():
    blocks = [np.ones((n, n)) - np.eye(n) for n in (5, 6, 8)]
    affinity = block_diag(*blocks) + 0.1 * RNG.uniform(size=(19, 19))
    affinity = np.triu(affinity, 1) + np.triu(affinity, 1).T
    root = np.sqrt(affinity.sum(1))
    values, vectors = (a[..., -3:] for a in np.linalg.eigh(affinity / np.outer(root, root)))
    expected = vectors * values**5
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = leading_eigenvectors(affinity, 3)
    found, plain = embedding_of(*ours, diffusion=5), embedding_of(*ours)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-8)
    assert np.abs(found @ found.T - plain @ plain.T).max() > 0.1
