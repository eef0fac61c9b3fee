"""The rolling checkpoints of a run, by Orbax."""

from __future__ import annotations

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from ncjax.training.steps import State


class Checkpoints:
    """The last two states of a run, under `<run>/checkpoints`; a context manager.

    A checkpoint is committed by a rename, so a kill while saving leaves the one before.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager((run / "checkpoints").absolute(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, state: State) -> None:
        """Saves a state under its epoch."""
        self._manager.save(int(state.epoch), args=ocp.args.StandardSave(vars(state)))

    def restore(self, like: State) -> State | None:
        """The latest state, or None if there is none.

        Args:
            like: a state of the right structure, shapes and devices (a fresh one).
        """
        latest = self._manager.latest_step()
        if latest is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, vars(like))
        return State(**self._manager.restore(latest, args=ocp.args.StandardRestore(target)))
