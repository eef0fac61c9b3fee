import numpy as np
import pytest
import scipy.sparse

from ncjax.senet.affinity import graph_of, largest_coefficients

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(11, 11)).astype("f4")
np.fill_diagonal(DENSE, 0)


@pytest.mark.parametrize("block", [1, 4, 11, 50])
def test_the_largest_coefficients_are_kept_whatever_the_blocks(block):
    found = largest_coefficients(lambda a, b: DENSE[a:b].copy(), 11, 11, 3, block)
    expected = np.where(np.abs(DENSE) >= np.sort(np.abs(DENSE), 1)[:, [-3]], DENSE, 0)
    np.testing.assert_array_equal(found.toarray(), expected)


def test_the_symmetric_graph_is_the_mean_of_both_sides():
    rows = np.abs(DENSE) / np.linalg.norm(DENSE, axis=1, keepdims=True)
    found = graph_of(scipy.sparse.csr_array(DENSE), "symmetric").toarray()
    np.testing.assert_allclose(found, (rows + rows.T) / 2, rtol=1e-6)


def test_neighbours_are_those_of_the_rows_at_unit_length():
    rows = DENSE / np.linalg.norm(DENSE, axis=1, keepdims=True)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2) + 9 * np.eye(11)
    near = (apart <= np.sort(apart, 1)[:, [1]]).astype(float)
    found = graph_of(scipy.sparse.csr_array(DENSE), "neighbours", 2).toarray()
    np.testing.assert_allclose(found, (near + near.T) / 2)
