import numpy as np
import pytest
import scipy.sparse

from ncjax.checks import InputError
from ncjax.senet.affinity import graph_of, largest_coefficients
from ncjax.senet.model import coefficients

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(11, 11)).astype("f4")
np.fill_diagonal(DENSE, 0)


@pytest.mark.parametrize("block", [1, 4, 11, 50, None])
@pytest.mark.parametrize("same", [True, False])
def test_the_largest_coefficients_are_kept_whatever_the_blocks(block, same):
    queries, keys = RNG.normal(size=(2, 11, 4)).astype("f4")
    dense = np.array(coefficients(queries, keys, 0.3))
    if same:
        np.fill_diagonal(dense, 0)
    found = largest_coefficients(queries, keys, 0.3, 3, same=same, block=block)
    expected = np.where(np.abs(dense) >= np.sort(np.abs(dense), 1)[:, [-3]], dense, 0)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-5)
    assert (found.toarray() != 0).sum() == found.nnz <= 33


def test_no_more_are_kept_than_there_are():
    with pytest.raises(InputError, match="`kept`: got 4, .*at most 3"):
        largest_coefficients(DENSE[:2], DENSE[:3], 0.0, 4)


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
