"""Attempts: a worker's try at a row that it has claimed, and how it ends without success."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

import stamina
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from datagen.db.session import writing
from datagen.errors import Cancelled
from datagen.service import claims
from datagen.service.lease import Lease
from datagen.settings import Settings

# A database that restarts is back within seconds; past the lease the work is somebody else's.
RETRY_SECONDS = 20.0

Result = TypeVar("Result")

log = structlog.get_logger()


@contextmanager
def attempt(
    engine: Engine,
    settings: Settings,
    kind: type[claims.Claimable],
    row_id: UUID,
    number: int,
    *,
    fail: claims.Fail | None = None,
) -> Iterator[Lease]:
    """Run the block as one attempt at a row that is claimed, under a lease that is kept alive.

    Its errors end the attempt, and go no further: `claims.end_attempt` decides whether there is
    another one.

    Args:
        engine: where the end is recorded, however long the database takes to be back.
        settings: how long a lease is, and how often work is tried.
        kind: table of the row.
        row_id: its id.
        number: of the attempt that claimed it.
        fail: ends the row for good, where that takes more than its own columns.
    """
    try:
        with Lease(engine, settings, kind, row_id, number) as lease:
            yield lease
    except Cancelled as stop:
        log.info("attempt_stopped", of=kind.__name__.lower(), id=str(row_id), reason=stop.detail)
    except Exception as error:  # noqa: BLE001 - whatever it is, the row must not wait for its lease
        claims.note_failure(kind, row_id, error)
        failed = error
        in_transaction(
            engine,
            lambda session: claims.end_attempt(
                session, settings, kind, row_id, number, failed, fail
            ),
        )


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def in_transaction(engine: Engine, use_case: Callable[[Session], Result]) -> Result:
    """Do a use case in one write transaction, again while the database is away for a moment."""
    with writing(engine) as session:
        return use_case(session)
