"""Reaching a server: the one that is named, the one that runs here, or one for this command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from datagen.cli.output import note, usage_error
from datagen.embedded import Workers, running_stack

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.settings import Settings

TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Connection:
    """A client, and whether the stack that it talks to ends with this command."""

    client: Client
    is_own: bool


@contextmanager
def connected(
    workers: Workers = Workers.ALL,
    *,
    must_run: bool = False,
    settings: Settings | None = None,
) -> Iterator[Connection]:
    """A connection for the time of a `with` block.

    Args:
        workers: those that the command needs; a stack of its own has no others.
        must_run: refuse to start a stack, because its work would end with the command.
        settings: read from the environment if None.

    Raises:
        HomeUnusable: the state folder is in use, or cannot be written.
        InvalidRequest: no server runs, and one must.
    """
    import stamina  # noqa: PLC0415 - slow to load, as the next two are; `--help` need not pay

    from datagen.client import Client  # noqa: PLC0415
    from datagen.settings import load_settings  # noqa: PLC0415

    # Its own notes about retries would stand on standard output, beside the JSON.
    stamina.instrumentation.set_on_retry_hooks([])
    settings = settings or load_settings()
    url = settings.url or _url_of_running(settings, workers)
    if url is not None:
        with Client(url, home=settings.home) as client:
            yield Connection(client, is_own=False)
    elif must_run:
        raise usage_error(
            f"This needs a server that goes on, and none runs on {settings.home}; "
            "start one with `datagen up`, or name one in DATAGEN_URL."
        )
    else:
        note(f"No server runs on {settings.home}; starting one for this command.")
        with own_stack(settings, workers) as client:
            yield Connection(client, is_own=True)


def _url_of_running(settings: Settings, workers: Workers) -> str | None:
    # One that a command has started for itself, with fewer workers, ends with that command; the
    # stack that is started next waits for it.
    stack = running_stack(settings.home)
    return stack.url if stack is not None and stack.workers >= workers else None


@contextmanager
def own_stack(settings: Settings, workers: Workers = Workers.ALL) -> Iterator[Client]:
    """A stack that lives as long as the block; a termination signal ends both in order."""
    from datagen.client import Client  # noqa: PLC0415 - as above
    from datagen.embedded import EmbeddedStack  # noqa: PLC0415 - as above

    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with (
            EmbeddedStack(settings, workers=workers) as stack,
            Client(stack.url, stack.api_key, home=settings.home) as client,
        ):
            yield client
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
