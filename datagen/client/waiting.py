"""Following a resource until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from datagen.errors import Unavailable
from datagen.schemas import ENDED, Export, Figures, Job, Model, Report

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
# A server that restarts is away for seconds; one that is away for longer deserves a word.
PATIENCE = 60.0

Followed = TypeVar("Followed", Job, Export, Figures, Model, Report)


def wait_for(
    read: Callable[[], Followed],
    progress: Callable[[Followed], None] | None = None,
    timeout: float | None = None,
) -> Followed:
    """Read again and again, ever more slowly, until the state is an end.

    Args:
        read: fetches the resource as it is now.
        progress: told of every reading, the last one too.
        timeout: seconds after which to give up; None waits for ever.

    Raises:
        TimeoutError: not ended in time.
        Unavailable: the server was away for more than a minute.
    """
    began = seen = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        try:
            found = read()
        except Unavailable:
            if time.monotonic() - seen > PATIENCE:
                raise
        else:
            seen = time.monotonic()
            if progress is not None:
                progress(found)
            if found.state in ENDED:
                return found
        if timeout is not None and time.monotonic() - began + pause > timeout:
            raise TimeoutError(f"Not ended after {timeout:g} s.")
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
