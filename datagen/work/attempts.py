"""Attempts: how work on a claimed row ends without success: given back, failed, or stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import stamina
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from datagen.db.session import writing
from datagen.errors import (
    Cancelled,
    DeviceUnusable,
    InvalidFile,
    InvalidRequest,
    StorageFailure,
    TrainingDiverged,
    reason_of,
)
from datagen.service.claims import Claimable
from datagen.service.lease import Lease
from datagen.settings import Settings

# A database that restarts is back within seconds; past the lease the work is somebody else's.
RETRY_SECONDS = 20.0
# The same would happen again, and what may have passed by the next time.
FINAL = (TrainingDiverged, InvalidFile, InvalidRequest, DeviceUnusable)
PASSING = (OSError, DBAPIError, RuntimeError, MemoryError, StorageFailure)

log = structlog.get_logger()

End = Callable[[Session, str], object]


@contextmanager
def attempt(
    engine: Engine,
    settings: Settings,
    kind: type[Claimable],
    row_id: UUID,
    number: int,
    *,
    fail: End,
    release: End,
) -> Iterator[Lease]:
    """Run the block as one attempt at a row that is claimed, under a lease that is kept alive.

    Its errors end the attempt, and go no further.

    Args:
        engine: where the end is recorded, however long the database takes to be back.
        settings: how long a lease is.
        kind: table of the row.
        row_id: its id.
        number: of the attempt that claimed it.
        fail: ends the row for good, with a reason.
        release: gives it back for another attempt, if it has one left.
    """
    what = kind.__name__.lower()
    try:
        with Lease(engine, settings, kind, row_id, number) as lease:
            yield lease
    except Cancelled as stop:
        log.info("attempt_stopped", of=what, id=str(row_id), reason=stop.detail)
    except FINAL as error:
        _record(engine, what, row_id, fail, reason_of(error))
    except PASSING as error:
        _record(engine, what, row_id, release, reason_of(error))


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _record(engine: Engine, what: str, row_id: UUID, end: End, reason: str) -> None:
    log.warning("attempt_failed", of=what, id=str(row_id), reason=reason)
    with writing(engine) as session:
        end(session, reason)
