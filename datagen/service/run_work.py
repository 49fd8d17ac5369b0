"""What workers do for a run where a transaction would be too short: read a source, clear up.

Claimed like all long work: by a lease, with a number that tells attempts apart, a few times at
most. A run stays `running` meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Run
from datagen.errors import (
    Cancelled,
    Conflict,
    DatagenError,
    NotFound,
    StorageFailure,
    reason_of,
)
from datagen.export.destination import remove_export
from datagen.queue import ADVANCE_RUN, Message
from datagen.schemas import PipelineApply, Step
from datagen.service import claims, datasets, exports, run_records
from datagen.service.destinations import destinations
from datagen.service.lease import Lease
from datagen.service.pipelines import recipe_of
from datagen.service.run_kept import superseded
from datagen.service.run_steps import PRUNE, REFRESH, WORK, At, take_dataset
from datagen.settings import Settings
from datagen.storage import Storage

_PASSING = (OSError, DBAPIError, RuntimeError, MemoryError, StorageFailure)
_STEPS: dict[str, Step] = {REFRESH: "refresh", PRUNE: "deliver"}

log = structlog.get_logger()


@dataclass(frozen=True)
class Work:
    """A run that a worker has claimed, and what it is to do for it."""

    run_id: UUID
    attempt: int
    tries: int
    owner_id: UUID
    kind: str
    recipe: PipelineApply


def run(engine: Engine, storage: Storage, settings: Settings, run_id: UUID) -> list[Message]:
    """Do what a run waits for, if nobody does; what is to be sent. Safe to be told of twice."""
    with writing(engine) as session:
        work = _claim(session, settings, run_id)
    if work is None:
        return []
    try:
        with Lease(engine, settings, Run, run_id, work.attempt) as lease:
            if work.kind == REFRESH:
                done = _refreshed(storage, settings, work)
            else:
                done = _pruned(engine, settings, work, lease)
            with writing(engine) as session:
                _close(session, settings, work, done)
    except Cancelled as stop:
        log.info("run_step_stopped", run=str(run_id), reason=stop.detail)
        return []
    except _PASSING as error:
        _give_back(engine, settings, work, reason_of(error), final=False)
    except DatagenError as error:
        _give_back(engine, settings, work, error.detail, final=True)
    return [Message(ADVANCE_RUN, {"run_id": str(run_id)})]


def _claim(session: Session, settings: Settings, run_id: UUID) -> Work | None:
    waits = session.execute(select(Run.waits_for, Run.state).where(Run.id == run_id)).first()
    if waits is None or waits.state != "running" or waits.waits_for not in WORK:
        return None
    row = claims.claim(session, settings, Run, run_id)
    # Between the two looks it may have gone on.
    if row is None or row.waits_for not in WORK:
        return None
    tries = row.attempt - row.attempt_floor
    return Work(row.id, row.attempt, tries, row.owner_id, row.waits_for, recipe_of(row))


# What is written when the work is done, in the transaction that ends the step.
_Record = Callable[[At], None]


def _refreshed(storage: Storage, settings: Settings, work: Work) -> _Record:
    """Read the source into the store; whether that is a new version is seen when it is closed."""
    source = work.recipe.source
    wanted = source.refresh
    assert wanted is not None  # noqa: S101 - the step was not begun without
    licence = datasets.licence_of_source(wanted)
    with tempfile.TemporaryDirectory(prefix="datagen-refresh-") as folder:
        ingested = datasets.ingest_source(storage, settings, wanted, Path(folder))

    def record(at: At) -> None:
        session, owner_id = at.session, work.owner_id
        row = datasets.take(session, settings, owner_id, source.dataset, ingested, licence)
        take_dataset(at, session.get_one(Dataset, row.id))

    return record


def _pruned(engine: Engine, settings: Settings, work: Work, lease: Lease) -> _Record:
    """Remove exports of earlier runs that are no longer kept, with what they put elsewhere."""
    with reading(engine) as session:
        row = session.get_one(Run, work.run_id)
        over = [
            (one.id, one.location, str(one.digest)) for one in superseded(session, row, work.recipe)
        ]
        rest = _locations(session, row, {export_id for export_id, _, _ in over})
    known = destinations(settings)
    lines = []
    for export_id, location, digest in over:
        lease.check()
        if location is not None and location not in rest:
            name, _, path = location.partition("/")
            gone = name in known and remove_export(known[name], path, digest, str(export_id))
            lines.append(
                f"Removed the older export at {location}."
                if gone
                else f"Left alone what lies at {location}: it is no longer the export of then."
            )
        else:
            lines.append(f"Removed the older export {export_id}.")
        with writing(engine) as session:
            try:
                exports.remove(session, work.owner_id, export_id)
            except (NotFound, Conflict):
                continue

    def record(at: At) -> None:
        for line in lines:
            at.say("deliver", line)

    return record


def _locations(session: Session, row: Run, over: set[UUID]) -> set[str]:
    """Where exports of the owner's lie that stay, and may have replaced an older one."""
    return {
        location
        for export_id, location in exports.located(session, row.owner_id)
        if export_id not in over
    }


def _close(session: Session, settings: Settings, work: Work, record: _Record) -> None:
    """End the step in one transaction with what it gave. Raises Cancelled where it was lost."""
    row = session.scalars(
        select(Run)
        .where(claims.held(Run, work.run_id, work.attempt))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise Cancelled(f"Run {work.run_id} was cancelled or taken over.")
    at = At(session, settings, row, work.recipe, now(session))
    record(at)
    run_records.end(row, _STEPS[work.kind], "succeeded", at.moment)
    row.waits_for = row.lease_until = row.sent_at = row.error = None
    session.flush()


def _give_back(engine: Engine, settings: Settings, work: Work, reason: str, *, final: bool) -> None:
    """Let go of a step that failed: for a while, or for good where the same would happen again."""
    log.warning("run_step_failed", run=str(work.run_id), attempt=work.attempt, reason=reason)
    with writing(engine) as session:
        wait = claims.backoff(settings, work.tries)
        floor = {"attempt_floor": work.attempt - settings.max_attempts} if final else {}
        over = now(session) if final else now(session) + wait
        claims.change(
            session, Run, work.run_id, work.attempt,
            lease_until=over, sent_at=None, error=reason, **floor,
        )  # fmt: skip
