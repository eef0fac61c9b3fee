"""The checkpoints of a run, by Orbax."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from ncjax import checks
from ncjax.training.steps import State


class Checkpoints:
    """States of a run under their step; a context manager.

    A checkpoint is committed by a rename, so a kill while saving leaves the one before. States are
    saved as plain arrays, which any number of devices can take up.

    Args:
        folder: for the checkpoints.
        keep: how many of the latest; all of them if None.
    """

    def __init__(self, folder: Path, keep: int | None = 2) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._folder = folder.absolute()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, state: State) -> None:
        """Saves a state under its step, unless it is there.

        Raises:
            InputError: there is no room, or no leave to write.
        """
        step = int(np.max(state.step))
        if step in self._manager.all_steps():
            return
        try:
            plain = jax.tree.map(np.asarray, vars(state))
            self._manager.save(step, args=ocp.args.StandardSave(plain))
        except (OSError, ValueError) as error:
            last = self.latest()
            kept = "none before" if last is None else f"the last good one is of step {last}"
            got = f"{self._folder} ({error}; {kept})"
            remedy = "Make room, and run the same command again."
            raise checks.reject("run", got, "a folder that can be written", remedy) from error

    def latest(self) -> int | None:
        """The step of the latest checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, like: State, step: int | None = None) -> State | None:
        """The latest state that is whole, or None if there is none; says which are damaged.

        Args:
            like: a state of the right structure and shapes (a fresh one, or its shapes alone).
            step: take only that of this step.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), vars(like))
        steps = sorted(self._manager.all_steps(), reverse=True)
        steps = [one for one in steps if step in (None, one)]
        for step in steps:
            try:
                found = self._manager.restore(step, args=ocp.args.StandardRestore(target))
                return State(**found)
            except Exception as error:  # Orbax's readers raise many kinds
                damage = f"damaged ({type(error).__name__}: {str(error).splitlines()[0]})"
                print(f"checkpoint {self._folder / str(step)} is {damage}", file=sys.stderr)
        if not steps:
            return None
        got, remedy = f"{self._folder}, all damaged", "Delete the run's folder to start afresh."
        raise checks.reject("run", got, "a run with a checkpoint that is whole", remedy)

    def forget_after(self, step: int) -> None:
        """Removes checkpoints later than a step: damaged ones that a run goes on before."""
        for later in self._manager.all_steps():
            if later > step:
                shutil.rmtree(self._folder / str(later), ignore_errors=True)
        self._manager.reload()
