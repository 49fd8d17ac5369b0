"""Due pipelines: a tick makes their runs, each due time once, however many ticks there are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from datagen.db.session import now
from datagen.db.tables import Pipeline, Run, new_id
from datagen.errors import reason_of
from datagen.queue import ADVANCE_RUN, RUN_STEP, Message
from datagen.schemas import DRAWN_SEED_BITS, ENDED
from datagen.service import clock, due_times, run_records
from datagen.service.pipelines import next_due, recipe_of
from datagen.service.run_steps import KINDS, WORK
from datagen.settings import Settings

AT_ONCE = 500
# A due time that nobody saw for so long counts as missed.
MISSED_AFTER = timedelta(minutes=10)
# What runs wait for, one another too.
_KINDS = {**KINDS, "run": aliased(Run)}

log = structlog.get_logger()


def make_due_runs(session: Session) -> int:
    """Make runs of some pipelines that are due; returns of how many, 0 when none is left.

    Of several due times that have passed, the last one is run; a recipe may ask for none where it
    is long over.
    """
    clock.bring_back_due_times(session)
    moment = now(session)
    due = session.scalars(
        select(Pipeline)
        .where(Pipeline.next_due_at <= moment, Pipeline.paused.is_(False))
        .order_by(Pipeline.next_due_at)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    runs = []
    for row in due:
        try:
            runs += _due_run(row, moment)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait for it
            # Written by another version, say, or in a zone that is no more. It shows so.
            log.error("pipeline_not_due", pipeline=str(row.id), reason=reason_of(error))  # noqa: TRY400 - no bug
            row.next_due_at = None
    _write(session, runs)
    return len(due)


def _due_run(row: Pipeline, moment: datetime) -> list[dict[str, object]]:
    """The run of a pipeline that is due, if it is to have one; notes its next due time."""
    recipe = recipe_of(row)
    schedule, due_at, cause = recipe.schedule, row.next_due_at, "dataset"
    if schedule is not None and not schedule.on_dataset:
        due_at, cause = due_times.last_due(schedule, moment, row.id) or due_at, "schedule"
    row.next_due_at = next_due(schedule, moment, row.id)
    # Missed or not, a new version is looked at: it is still there.
    missed = cause == "schedule" and due_at is not None and moment - due_at > MISSED_AFTER
    if due_at is None or (missed and recipe.on_missed == "skip"):
        return []
    return [new_run(row, cause, due_at, moment)]


def go_on(session: Session, settings: Settings) -> list[Message]:
    """Tell workers of runs whose turn it is, or whose wait is over; marks them as told."""
    moment = now(session)
    is_open = Run.state.in_(("queued", "running"))
    forgotten = moment - timedelta(seconds=settings.resend_seconds)
    untold = and_(is_open, or_(Run.sent_at.is_(None), Run.sent_at < forgotten))
    ready: list[UUID] = []
    work: list[UUID] = []
    # Most ticks find none at all, and the others few kinds.
    for name in session.scalars(select(Run.waits_for).where(is_open).distinct()).all():
        if name is None:
            turn = and_(untold, Run.waits_for.is_(None), Run.available_at <= moment)
            ready += session.scalars(select(Run.id).where(turn))
        elif name in WORK:
            silent = and_(untold, Run.waits_for == name, Run.lease_until < moment)
            spent = Run.attempt - Run.attempt_floor >= settings.max_attempts
            ready += session.scalars(select(Run.id).where(silent, spent))
            work += session.scalars(select(Run.id).where(silent, ~spent))
        else:
            ready += _waited(session, untold, name, _KINDS[name])
    told = [*ready, *work]
    for start in range(0, len(told), AT_ONCE):
        some = told[start : start + AT_ONCE]
        session.execute(update(Run).where(Run.id.in_(some)).values(sent_at=moment))
    return [Message(ADVANCE_RUN, {"run_id": str(row)}) for row in ready] + [
        Message(RUN_STEP, {"run_id": str(row)}) for row in work
    ]


def _waited(session: Session, untold: ColumnElement[bool], name: str, kind: Any) -> Sequence[UUID]:
    """Runs that waited for a row of this kind, which has ended or is gone."""
    return session.scalars(
        select(Run.id)
        .outerjoin(kind, kind.id == Run.waits_id)
        .where(
            untold,
            Run.waits_for == name,
            or_(kind.id.is_(None), kind.state.in_(sorted(ENDED))),
        )
    ).all()


def new_run(row: Pipeline, cause: str, due_at: datetime, moment: datetime) -> dict[str, object]:
    """The columns of a run that waits for its turn."""
    return {
        "id": new_id(),
        "owner_id": row.owner_id,
        "pipeline_id": row.id,
        "due_at": due_at,
        "cause": cause,
        "version": row.version,
        "recipe": row.recipe,
        "state": "queued",
        "retry": 0,
        "steps": run_records.fresh(),
        "seed": seed_of(row, due_at),
        "exports": [],
        "attempt": 0,
        "attempt_floor": 0,
        "available_at": moment,
        "created_at": moment,
    }


def seed_of(row: Pipeline, due_at: datetime) -> int:
    """The recipe's seed, or one that is the run's own and the same whenever it is asked for."""
    fixed: int | None = row.recipe.get("seed")
    if fixed is not None:
        return fixed
    digest = hashlib.sha256(f"{row.id} {due_at.astimezone(UTC).isoformat()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - DRAWN_SEED_BITS)


def _write(session: Session, runs: list[dict[str, object]]) -> None:
    """Write runs, but those whose due time has one already."""
    if not runs:
        return
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    wanted = insert(Run).on_conflict_do_nothing(index_elements=["pipeline_id", "due_at"])
    session.execute(wanted, runs)
