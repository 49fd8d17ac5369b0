"""What the routes work with: settings, database, storage and the queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from datagen.api.logs import log
from datagen.db.session import open_engine
from datagen.errors import QueueUnavailable
from datagen.queue import CeleryQueue, Message, Queue
from datagen.settings import Settings
from datagen.storage import Storage, open_storage

PAUSE_SECONDS = 2.0


class Backends:
    """The parts of the service that the routes of one application share."""

    def __init__(self, settings: Settings, queue: Queue | None = None) -> None:
        self.settings = settings
        self.engine: Engine = open_engine(settings.database)
        self.storage: Storage = open_storage(settings.storage)
        self._queue = queue
        self._silent_until = 0.0

    def send(self, messages: Iterable[Message]) -> None:
        """Tell the workers, if the broker listens; what is recorded is found by beat otherwise.

        After a failure nothing is sent for a moment: a broker that hangs must not hold up every
        request in turn.
        """
        waiting: Sequence[Message] = list(messages)
        if not waiting:
            return
        if time.monotonic() < self._silent_until:
            log.warning("not sent: the broker was away a moment ago", messages=len(waiting))
            return
        try:
            self._open_queue().send(waiting)
        except QueueUnavailable as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("not sent", messages=len(waiting), detail=error.detail)

    def send_now(self, message: Message) -> None:
        """Tell the workers of what is written nowhere. Raises QueueUnavailable."""
        self._open_queue().send([message])

    def _open_queue(self) -> Queue:
        if self._queue is None:
            if self.settings.broker_url is None:
                raise QueueUnavailable("DATAGEN_BROKER_URL names no broker.")
            self._queue = CeleryQueue(self.settings.broker_url)
        return self._queue

    def close(self) -> None:
        """Close the database's connections."""
        self.engine.dispose()


async def backends_of(request: Request) -> Backends:
    """The backends of the application that serves the request."""
    # Async since FastAPI has a thread call what is not.
    found: Backends = request.app.state.backends
    return found


Wired = Annotated[Backends, Depends(backends_of)]
