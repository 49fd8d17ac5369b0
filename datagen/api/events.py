"""Events: jobs as they change, sent to whoever listens.

One poller a process reads the revisions of the jobs that somebody listens to, all at once, and the
whole of those that have changed. An event is the job as it then is and its id is the job's
revision, so whoever was away for a while loses nothing by what it did not see. The poller looks at
who listens, too: a stream ends soon after its key or session does.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from datagen.api.backends import Backends
from datagen.api.logs import log
from datagen.db.session import reading
from datagen.schemas import ENDED, Job
from datagen.service import following, sign_ins
from datagen.service.keys import Principal

POLL_SECONDS = 0.5
# A key or session that ends closes its streams within this and a poll.
ADMISSION_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
# Told to browsers: how soon to come back after the connection broke.
RETRY_MILLISECONDS = 2000
REMOVED = "removed"
Key = TypeVar("Key")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Told:
    """A job at a revision, as all of its listeners get it."""

    revision: int
    state: str
    text: str

    @classmethod
    def of(cls, revision: int, job: Job | None) -> Told:
        """The job as it is; None once it is gone."""
        if job is None:
            return cls(revision, REMOVED, "{}")
        return cls(revision, job.state, job.model_dump_json())


class Listener:
    """Somebody who follows a job: what waits to be sent, and a bell."""

    def __init__(self, asker: Principal) -> None:
        self.asker = asker
        self.admitted = True
        self._bell = asyncio.Event()
        self._waiting: Told | None = None

    def tell(self, told: Told) -> None:
        """Have it sent; what waited before is out of date."""
        self._waiting = told
        self._bell.set()

    def wake(self) -> None:
        """Have it look up, though nothing is to be sent."""
        self._bell.set()

    def dismiss(self) -> None:
        """Send nothing more: the key or the session has ended."""
        self.admitted = False
        self._waiting = None
        self._bell.set()

    async def next(self) -> Told | None:
        """What waits, or None where it was woken or nothing comes for long."""
        try:
            await asyncio.wait_for(self._bell.wait(), HEARTBEAT_SECONDS)
        except TimeoutError:
            return None
        self._bell.clear()
        found, self._waiting = self._waiting, None
        return found


class Events:
    """The listeners of one application, and the poller that serves them all."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._listeners: dict[UUID, set[Listener]] = defaultdict(set)
        self._revisions: dict[UUID, int] = {}
        self._poller: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self._closing = False

    async def stream(
        self, asker: Principal, job_id: UUID, revision: int, job: Job, seen: int
    ) -> AsyncIterator[bytes]:
        """Events of a job until it has ended, or whoever follows it may no longer.

        Args:
            asker: who follows it, and may do so now.
            job_id: the job.
            revision: the one that `job` was read at.
            job: as it is now.
            seen: the last revision that the listener has, or -1.
        """
        listener = Listener(asker)
        self._join(job_id, revision, listener)
        state = ""
        try:
            yield format_sse_event(retry=RETRY_MILLISECONDS)
            if revision > seen:
                listener.tell(Told.of(revision, job))
            else:
                state = job.state
            while not self._closing:
                told = await listener.next()
                if not listener.admitted:
                    return
                if told is None:
                    yield KEEPALIVE_COMMENT
                    continue
                kind = "progress" if told.state == state else "state"
                kind, state = REMOVED if told.state == REMOVED else kind, told.state
                yield format_sse_event(event=kind, data_str=told.text, id=str(told.revision))
                if state in ENDED or state == REMOVED:
                    return
        finally:
            self._leave(job_id, listener)

    def _join(self, job_id: UUID, revision: int, listener: Listener) -> None:
        self._listeners[job_id].add(listener)
        # The oldest that somebody has: whoever read the job before another did must not miss what
        # lies between.
        self._revisions[job_id] = min(revision, self._revisions.get(job_id, revision))
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    def _leave(self, job_id: UUID, listener: Listener) -> None:
        self._listeners[job_id].discard(listener)
        if not self._listeners[job_id]:
            del self._listeners[job_id]
            self._revisions.pop(job_id, None)

    async def _poll(self) -> None:
        while self._listeners and not self._closing:
            for job_id, told in await self._read(self._changed, dict(self._revisions)) or ():
                if job_id in self._revisions:
                    self._revisions[job_id] = told.revision
                for listener in self._listeners.get(job_id, ()):
                    listener.tell(told)
            await self._dismiss()
            await asyncio.sleep(POLL_SECONDS)

    async def _dismiss(self) -> None:
        """End the streams of those who would not be admitted now."""
        if time.monotonic() < self._looked_at + ADMISSION_SECONDS:
            return
        everybody = [one for listeners in self._listeners.values() for one in listeners]
        admitted = await self._read(self._admitted, {one.asker for one in everybody})
        if admitted is None:
            # Nothing is read for them either while the database is away.
            return
        self._looked_at = time.monotonic()
        for listener in everybody:
            if listener.asker not in admitted:
                listener.dismiss()

    @staticmethod
    async def _read(read: Callable[[Key], Result], what: Key) -> Result | None:
        """What is read in a thread; None where that fails, which ends nobody's stream."""
        try:
            return await run_sync(read, what)
        except SQLAlchemyError as error:
            # The listeners stay, and learn of everything when the database is back.
            log.warning("events_not_read", error=type(error).__name__)
        except Exception:  # noqa: BLE001 - whatever it is, nobody else may lose their streams by it
            log.exception("events_not_read")
        return None

    def _admitted(self, askers: set[Principal]) -> frozenset[Principal]:
        with reading(self._backends.engine) as session:
            return sign_ins.still_admitted(session, askers, "read")

    def _changed(self, known: dict[UUID, int]) -> Sequence[tuple[UUID, Told]]:
        with reading(self._backends.engine) as session:
            found = following.changed(session, known)
            return [(job_id, Told.of(revision, job)) for job_id, revision, job in found]

    async def close(self) -> None:
        """End all streams; whoever listens comes back to another process."""
        self._closing = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.wake()
        if self._poller is not None:
            await self._poller
