"""Following a resource until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from datagen.errors import Unavailable
from datagen.schemas import ENDED, Export, Figures, Job, Model, Report, Run

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
# A server that restarts is away for seconds; one that is away for longer deserves a word.
PATIENCE = 60.0

Followed = TypeVar("Followed", bound=Job | Export | Figures | Model | Report | Run)
# What is told of every reading; True shows a bar.
Told = Callable[[Followed], None] | Literal[True] | None


def wait_for(
    read: Callable[[], Followed],
    progress: Told[Followed] = None,
    timeout: float | None = None,
) -> Followed:
    """Read again and again, ever more slowly, until the state is an end.

    Args:
        read: fetches the resource as it is now.
        progress: told of every reading, the last one too; True shows a bar on standard error, or
            below the cell of a notebook.
        timeout: seconds after which to give up; None waits for ever.

    Raises:
        TimeoutError: not ended in time.
        Unavailable: the server was away for more than a minute.
    """
    if progress is True:
        with _bar() as tell:
            return _waited(read, tell, timeout)
    return _waited(read, progress, timeout)


def _waited(
    read: Callable[[], Followed],
    progress: Callable[[Followed], None] | None,
    timeout: float | None,
) -> Followed:
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


@contextmanager
def _bar() -> Iterator[Callable[[Job | Export | Figures | Model | Report | Run], None]]:
    from rich.console import Console  # noqa: PLC0415 - only who wants to see it waits for it
    from rich.progress import Progress, TextColumn  # noqa: PLC0415 - likewise

    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[remark]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("waiting", total=None, remark="")

        def tell(found: Job | Export | Figures | Model | Report | Run) -> None:
            done, total = how_far(found)
            bar.update(
                task,
                description=found.state,
                completed=done,
                total=total,
                remark="" if total is None else f"{done:,} of {total:,}",
            )

        yield tell


@contextmanager
def byte_progress(
    progress: Callable[[int, int], None] | Literal[True] | None, what: str
) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell of bytes done and bytes in all: whoever is given, or a bar for True."""
    if progress is not True:
        yield progress
        return
    from rich.console import Console  # noqa: PLC0415 - only who wants to see it waits for it
    from rich.progress import DownloadColumn, Progress  # noqa: PLC0415 - likewise

    columns = (*Progress.get_default_columns(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def how_far(found: Job | Export | Figures | Model | Report | Run) -> tuple[int, int | None]:
    """What is done, and what there is to do where that is known."""
    if isinstance(found, Job):
        return found.images_stored + found.images_short, found.images_requested
    if isinstance(found, Export):
        return found.images_written, found.images_total
    if isinstance(found, Run):
        return sum(step.state not in {"waiting", "running"} for step in found.steps), len(
            found.steps
        )
    return 0, None
