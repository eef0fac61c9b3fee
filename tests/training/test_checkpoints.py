import jax
import jax.numpy as jnp
import numpy as np

from ncjax.training import State
from ncjax.training.checkpoints import Checkpoints


def state(step: int) -> State:
    leaf = jnp.full((2, 3), float(step))
    return State({"params": {"w": leaf}}, (leaf, {"count": jnp.int32(step)}), jnp.int32(step))


def test_the_latest_state_comes_back_bit_for_bit_and_two_are_kept(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(state(0)) is None
        for step in (1, 2, 5):
            checkpoints.save(state(step))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state(0))
    assert jax.tree.structure(restored) == jax.tree.structure(state(0))
    jax.tree.map(np.testing.assert_array_equal, restored, state(5))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "5"]
