"""Due pipelines: a tick makes their runs, each due time once, however many ticks there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Pipeline, Run, new_id
from datagen.schemas import STEPS
from datagen.service import due_times
from datagen.service.pipelines import next_due, recipe_of

AT_ONCE = 500
# A due time that nobody saw for so long counts as missed.
MISSED_AFTER = timedelta(minutes=10)


def make_due_runs(session: Session) -> int:
    """Make runs of some pipelines that are due; returns of how many, 0 when none is left.

    Of several due times that have passed, the last one is run; a recipe may ask for none where it
    is long over.
    """
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
        recipe = recipe_of(row)
        schedule, due_at, cause = recipe.schedule, row.next_due_at, "dataset"
        if schedule is not None and not schedule.on_dataset:
            due_at, cause = due_times.last_due(schedule, moment, row.id) or due_at, "schedule"
        # Missed or not, a new version is looked at: it is still there.
        missed = cause == "schedule" and due_at is not None and moment - due_at > MISSED_AFTER
        if due_at is not None and not (missed and recipe.on_missed == "skip"):
            runs.append(new_run(row, cause, due_at, moment))
        row.next_due_at = next_due(schedule, moment, row.id)
    _write(session, runs)
    return len(due)


def note_new_version(session: Session, owner_id: UUID, dataset: str) -> None:
    """Make pipelines due that watch a dataset, in the transaction that writes its new version."""
    session.execute(
        update(Pipeline)
        .where(
            Pipeline.owner_id == owner_id,
            Pipeline.watched == dataset,
            Pipeline.paused.is_(False),
        )
        .values(next_due_at=now(session))
    )


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
        "steps": [{"name": name, "state": "waiting"} for name in STEPS],
        "exports": [],
        "attempt": 0,
        "attempt_floor": 0,
        "available_at": moment,
        "created_at": moment,
    }


def _write(session: Session, runs: list[dict[str, object]]) -> None:
    """Write runs, but those whose due time has one already."""
    if not runs:
        return
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    wanted = insert(Run).on_conflict_do_nothing(index_elements=["pipeline_id", "due_at"])
    session.execute(wanted, runs)
