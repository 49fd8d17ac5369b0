"""Looking at each part of the service, with a time limit on every look."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from sqlalchemy import text

from datagen.api.backends import Backends
from datagen.api.logs import log
from datagen.db.migrate import check
from datagen.db.session import reading
from datagen.errors import DatagenError, Unavailable
from datagen.queue import redis_url
from datagen.schemas import Readiness

SECONDS_PER_PART = 2.0
OK, UNAVAILABLE = "ok", "unavailable"
# Whoever asks without a key, and often, must not make the storage write and the broker answer; but
# who waits for the service to come up is to learn of it at once.
READY_REMEMBERED, UNREADY_REMEMBERED = 1.0, 0.1
_THREADS = 8
READY_KEY_SECONDS = 10


def _database(backends: Backends) -> None:
    with reading(backends.engine) as session:
        session.execute(text("SELECT 1"))


def _schema(backends: Backends) -> None:
    check(backends.engine)


def _storage(backends: Backends) -> None:
    # Under uploads/, where the sweep would remove what a crash in between leaves.
    key = f"uploads/ready-{uuid.uuid4().hex}"
    backends.storage.put(key, b"ready")
    backends.storage.delete(key)


def _broker(backends: Backends) -> None:
    url = backends.settings.broker_url
    if url is None:
        raise Unavailable("DATAGEN_BROKER_URL names none")
    # Only here does the API itself speak to the broker.
    from redis import Redis  # noqa: PLC0415
    from redis.exceptions import ResponseError  # noqa: PLC0415

    seconds = SECONDS_PER_PART / 2
    with Redis.from_url(
        redis_url(url),
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
    ) as broker:
        # A broker that is full, read-only or cannot save answers, and takes no message.
        key = f"datagen:ready:{uuid.uuid4().hex}"
        try:
            broker.set(key, "ready", ex=READY_KEY_SECONDS)
            broker.delete(key)
        except ResponseError as error:
            raise Unavailable("refuses writes; see its memory, disk and replicas") from error


PARTS: dict[str, Callable[[Backends], None]] = {
    "database": _database,
    "schema": _schema,
    "storage": _storage,
    "broker": _broker,
}


class Looks:
    """The last look at the parts of one application, and the threads that may look."""

    def __init__(self) -> None:
        self.limiter = CapacityLimiter(_THREADS)
        self.lock = anyio.Lock()
        self.fresh_until = float("-inf")
        self.found = Readiness(ready=False, parts={})


async def look_at_parts(backends: Backends, looks: Looks) -> Readiness:
    """Look at all parts at once; one that is slower than two seconds counts as away."""
    async with looks.lock:
        if time.monotonic() < looks.fresh_until:
            return looks.found
        answers: dict[str, str] = {}

        async def look(part: str) -> None:
            answers[part] = f"no answer within {SECONDS_PER_PART:g} s"
            with anyio.move_on_after(SECONDS_PER_PART):
                answers[part] = await run_sync(
                    _answer, PARTS[part], backends, abandon_on_cancel=True, limiter=looks.limiter
                )

        async with anyio.create_task_group() as group:
            for part in PARTS:
                group.start_soon(look, part)
        ready = all(answer == OK for answer in answers.values())
        found = Readiness(ready=ready, parts={part: answers[part] for part in PARTS})
        if not ready and found != looks.found:
            log.warning("not_ready", **found.parts)
        looks.found = found
        looks.fresh_until = time.monotonic() + (READY_REMEMBERED if ready else UNREADY_REMEMBERED)
        return looks.found


def without_reasons(found: Readiness) -> Readiness:
    """Which parts answer, and nothing else: no user, host, folder or name of a database."""
    parts = {part: OK if state == OK else UNAVAILABLE for part, state in found.parts.items()}
    return Readiness(ready=found.ready, parts=parts)


def _answer(look: Callable[[Backends], None], backends: Backends) -> str:
    try:
        look(backends)
    except DatagenError as error:
        return error.detail
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the part is away
        # Its text may hold an address or a password; the kind says enough to whoever asks.
        return f"does not answer ({type(error).__name__})"
    return OK
