"""Following a job by its events: whenever it changes, and without asking again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

import httpx

from datagen.client.transport import Transport
from datagen.client.waiting import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE
from datagen.errors import Unavailable
from datagen.schemas import ENDED, Job

# The server sends a comment every fifteen seconds.
SILENCE_SECONDS = 60.0
_NO_CONTENT = 204

Followed = TypeVar("Followed", bound=Job)


def follow(transport: Transport, path: str, kind: type[Followed]) -> Iterator[Followed]:
    """A job whenever it has changed, until it has ended; a broken connection is taken up again.

    Raises:
        NotFound: there is no such job, or it was removed meanwhile.
        Unavailable: the server was away for more than a minute.
    """
    last, seen, pause = None, time.monotonic(), FIRST_PAUSE
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        try:
            with transport.stream(path, headers, read_seconds=SILENCE_SECONDS) as response:
                if response.status_code == _NO_CONTENT:
                    return
                for number, data in _events(response.iter_lines()):
                    seen, pause = time.monotonic(), FIRST_PAUSE
                    job = transport.read_as(kind, data) if data != "{}" else None
                    if job is None:
                        # Removed: the server says so in its own words to whoever asks.
                        break
                    last = number
                    yield job
                    if job.state in ENDED:
                        return
        except (httpx.TransportError, Unavailable) as error:
            if time.monotonic() - seen > PATIENCE:
                if isinstance(error, Unavailable):
                    raise
                raise transport.failure(error) from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Id and data of each event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    number, data = "", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            number = value
        elif name == "data":
            data = value
        elif not line and data:
            yield number, data
            data = ""
