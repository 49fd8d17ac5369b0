"""What workers do for a run where a transaction would be too short: read a source, clear up.

Claimed like all long work: by a lease, with a number that tells attempts apart, a few times at
most. A run stays `running` meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Run
from datagen.errors import Cancelled, Conflict, NotFound
from datagen.export.destination import remove_export
from datagen.queue import ADVANCE_RUN, Message
from datagen.schemas import PipelineApply, Step
from datagen.service import claims, datasets, exports, run_records
from datagen.service.attempts import attempt, in_transaction
from datagen.service.destinations import destinations
from datagen.service.lease import Lease
from datagen.service.pipelines import recipe_of
from datagen.service.reader import FileReader
from datagen.service.run_kept import superseded
from datagen.service.run_steps import PRUNE, REFRESH, WORK, At, take_dataset
from datagen.settings import Settings
from datagen.storage import Storage

_STEPS: dict[str, Step] = {REFRESH: "refresh", PRUNE: "deliver"}


@dataclass(frozen=True)
class Work:
    """A run that a worker has claimed, and what it is to do for it."""

    run_id: UUID
    attempt: int
    owner_id: UUID
    kind: str
    recipe: PipelineApply


def run(engine: Engine, storage: Storage, settings: Settings, run_id: UUID) -> list[Message]:
    """Do what a run waits for, if nobody does; what is to be sent. Safe to be told of twice."""
    work = in_transaction(engine, lambda session: _claim(session, settings, run_id))
    if work is None:
        return []
    with attempt(
        engine, settings, Run, run_id, work.attempt, fail=_failing(settings, run_id, work.attempt)
    ) as lease:
        if work.kind == REFRESH:
            done = _refreshed(storage, settings, work, lease)
        else:
            done = _pruned(engine, settings, work, lease)
        in_transaction(engine, lambda session: _close(session, settings, work, done))
    # However it ended: where nothing has changed, nothing is done.
    return [Message(ADVANCE_RUN, {"run_id": str(run_id)})]


def _claim(session: Session, settings: Settings, run_id: UUID) -> Work | None:
    waits = session.execute(select(Run.waits_for, Run.state).where(Run.id == run_id)).first()
    if waits is None or waits.state != "running" or waits.waits_for not in WORK:
        return None
    row = claims.claim(session, settings, Run, run_id)
    # Between the two looks it may have gone on.
    if row is None or row.waits_for not in WORK:
        return None
    kind = row.waits_for
    return claims.read_claimed(
        session,
        settings,
        row,
        lambda: Work(row.id, row.attempt, row.owner_id, kind, recipe_of(row)),
        _failing(settings, row.id, row.attempt),
    )


# What is written when the work is done, in the transaction that ends the step.
_Record = Callable[[At], None]


def _refreshed(storage: Storage, settings: Settings, work: Work, lease: Lease) -> _Record:
    """Read the source into the store; whether that is a new version is seen when it is closed."""
    source = work.recipe.source
    wanted = source.refresh
    assert wanted is not None  # noqa: S101 - the step was not begun without
    licence = datasets.licence_of_source(wanted)
    ingested = datasets.ingest_source(storage, FileReader(settings, lease.check), wanted)

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


def _failing(settings: Settings, run_id: UUID, number: int) -> claims.Fail:
    """How an attempt at a step ends for good: `advance` finds it spent, and ends the step."""

    def fail(session: Session, failure: claims.Failure) -> bool:
        return claims.change(
            session,
            Run,
            run_id,
            number,
            lease_until=now(session),
            sent_at=None,
            error=failure.reason,
            attempt_floor=number - settings.max_attempts,
        )

    return fail
