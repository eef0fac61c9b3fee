import numpy as np
import scipy.sparse
from scipy.linalg import block_diag

from ncjax.senet.spectral import leading_eigenvectors, spectral_clusters

RNG = np.random.default_rng(0)


def test_parts_of_a_graph_are_its_clusters():
    sizes = (7, 9, 12)
    blocks = [np.ones((n, n)) - np.eye(n) for n in sizes]
    labels = np.repeat(np.arange(3), sizes)
    order = RNG.permutation(len(labels))
    affinity = block_diag(*blocks)[order][:, order]
    values, vectors = leading_eigenvectors(scipy.sparse.csr_array(affinity), 3)
    np.testing.assert_allclose(values, 1)
    found = spectral_clusters(vectors, 3)
    pairs = set(zip(labels[order].tolist(), found.tolist(), strict=True))
    assert len(pairs) == 3


def test_many_points_are_embedded_as_few():
    affinity = np.abs(RNG.normal(size=(40, 40)))
    affinity += affinity.T
    np.fill_diagonal(affinity, 0)
    values, found = leading_eigenvectors(scipy.sparse.csr_array(affinity), 3)
    assert found.shape == (40, 3)
    degrees = affinity.sum(1)
    matrix = affinity / np.sqrt(degrees[:, None] * degrees[None, :])
    all_values, all_vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(values, all_values[-3:], atol=1e-8)
    expected = all_vectors[:, -3:]
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-8)
    single = scipy.sparse.csr_array((affinity + np.diag(np.arange(40))).astype(np.float32))
    values, again = leading_eigenvectors(single, 3)
    assert again.dtype == values.dtype == np.float32
    np.testing.assert_allclose(again @ again.T, expected @ expected.T, atol=1e-4)


def test_points_without_a_neighbour_do_not_lead():
    affinity = block_diag(
        np.ones((9, 9)) - np.eye(9), np.ones((7, 7)) - np.eye(7), np.zeros((3, 3))
    )
    values, found = leading_eigenvectors(scipy.sparse.csr_array(affinity), 2)
    np.testing.assert_allclose(values, 1)
    np.testing.assert_allclose(found[16:], 0)
    np.testing.assert_allclose(np.abs(found[:9] @ found[9:16].T), 0, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(found[:9], axis=1), 1 / 3)
    np.testing.assert_allclose(np.linalg.norm(found[9:16], axis=1), 7**-0.5)
