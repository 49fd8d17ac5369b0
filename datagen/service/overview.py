"""An owner's overview: what is at work, how fast, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Batch, Job, Model, Pipeline
from datagen.service import jobs, pipelines
from datagen.service.unreadable_rows import skip_unreadable

RECENT_JOBS, NEXT_PIPELINES = 8, 5
OPEN = ("queued", "running")


@dataclass(frozen=True)
class Overview:
    """What an owner sees first.

    Attributes:
        jobs: the newest.
        images_last_hour: that were stored in the last sixty minutes.
        batches: of all owners, queued and running.
        training: models in training.
        models: trained, the public ones too.
        next_runs: pipelines by their next due time.
    """

    jobs: list[schemas.Job]
    images_last_hour: int
    batches: dict[str, int]
    training: list[schemas.ModelRef]
    models: int
    next_runs: list[schemas.Pipeline]


def overview(session: Session, owner_id: UUID) -> Overview:
    """What is there now."""
    moment = now(session)
    stored = session.scalar(
        select(func.sum(Batch.stop - Batch.start))
        .join(Job, Job.id == Batch.job_id)
        .where(
            Job.owner_id == owner_id,
            Batch.state == "succeeded",
            Batch.ended_at > moment - timedelta(hours=1),
        )
    )
    counted = select(Batch.state, func.count()).where(Batch.state.in_(OPEN)).group_by(Batch.state)
    batches = {row.state: row[1] for row in session.execute(counted)}
    own = select(Model).where(Model.owner_id == owner_id, Model.removed_at.is_(None))
    training = session.scalars(own.where(Model.state.in_(OPEN)).order_by(Model.id.desc())).all()
    trained = session.scalar(
        select(func.count())
        .select_from(Model)
        .where(
            (Model.owner_id == owner_id) | (Model.visibility == "public"),
            Model.state == "succeeded",
            Model.removed_at.is_(None),
        )
    )
    due = session.scalars(
        select(Pipeline)
        .where(
            Pipeline.owner_id == owner_id,
            Pipeline.paused.is_(False),
            Pipeline.next_due_at.is_not(None),
        )
        .order_by(Pipeline.next_due_at)
        .limit(NEXT_PIPELINES)
    ).all()
    return Overview(
        jobs=list(jobs.list_jobs(session, owner_id, limit=RECENT_JOBS).items),
        images_last_hour=int(stored or 0),
        batches={state: batches.get(state, 0) for state in OPEN},
        training=[schemas.ModelRef.model_validate(row) for row in training],
        models=trained or 0,
        next_runs=skip_unreadable(due, lambda some: pipelines.to_schemas(session, some)),
    )
