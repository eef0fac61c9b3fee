"""Progress bars for long work: lively on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(iterable: Iterable | None = None, *, show: bool = True, **settings: Any) -> tqdm:
    """A tqdm bar.

    Args:
        iterable: to loop over, or None to call `update` by hand.
        show: False for silence.
        **settings: of `tqdm.tqdm`.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        iterable,
        disable=not show,
        mininterval=interval,
        maxinterval=max(10.0, interval),
        dynamic_ncols=True,
        **settings,
    )
