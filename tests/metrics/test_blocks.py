import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.metrics import blocks


@pytest.mark.parametrize("rows", [3, 7, 8, 11, 12])
def test_blocks_and_rest_are_all_rows_in_order(monkeypatch, rows):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    arrays = (jnp.arange(rows), jnp.ones((rows, 2)))
    whole, rest = blocks.split(arrays)
    assert (whole is None) == (rows < 8)
    if whole is not None:
        assert whole[1].shape == (rows // 4, 4, 2)
        rest = tuple(
            np.concatenate([w.reshape(-1, *r.shape[1:]), r])
            for w, r in zip(whole, rest, strict=True)
        )
    for found, expected in zip(rest, arrays, strict=True):
        np.testing.assert_array_equal(found, expected)
