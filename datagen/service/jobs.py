"""Jobs: requests for images, created, read, listed and cancelled."""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Job, new_id
from datagen.errors import (
    Conflict,
)
from datagen.queue import MAKE_BATCHES, Message
from datagen.schemas import DRAWN_SEED_BITS, ENDED, JobCreate, Page
from datagen.service import batches, job_plans, quotas
from datagen.service.common import (
    MAX_PAGE,
    decode_id_cursor,
    encode_cursor,
    models_named,
    owned,
)
from datagen.service.job_views import new_to_schema, to_schemas
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings

LISTED_LABELS = 20
# Enough to keep some workers busy until the control task has cut the others; each one costs whoever
# waits for the answer a millisecond.
CUT_AT_ONCE = 8


def create(
    session: Session, settings: Settings, owner_id: UUID, request: JobCreate
) -> tuple[schemas.Job, list[Message]]:
    """Write a job and cut its first batches.

    Raises:
        NotFound: no such model or webhook.
        Conflict: the model is not trained yet.
        UnknownLabel: a label that the model does not know, or has not learnt.
        QuotaExceeded: more images than the owner may have.
        InvalidRequest: an unknown export format, or a sampler or gate for which the model keeps
            nothing.
        Forbidden: a sampler that starts from another owner's images.
    """
    model = job_plans.usable(session, owner_id, request)
    request, counts, notes = job_plans.resolved(session, owner_id, request, model)
    total = sum(count for _, count in counts)
    moment = now(session)
    job = Job(
        id=new_id(),
        owner_id=owner_id,
        model_id=model.id,
        state="queued",
        seed=secrets.randbits(DRAWN_SEED_BITS) if request.seed is None else request.seed,
        sampler=request.sampler,
        temperature=request.temperature,
        truncation=request.truncation,
        strength=request.strength,
        gate=None if request.gate is None else request.gate.model_dump(),
        images_requested=total,
        next_index=0,
        batch_size=settings.batch_size,
        follow_exports=list(dict.fromkeys(request.exports)),
        priority=request.priority,
        noted=request.metadata,
        notes=notes,
        retention_days=request.retention_days,
        webhook_id=request.webhook,
        created_at=moment,
    )
    parts = job_plans.stretches(job.id, counts)
    first, messages = batches.first_of(session, settings, job, moment, most=CUT_AT_ONCE)
    session.add(job)
    session.flush()
    session.add_all([*parts, *first])
    session.flush()
    quotas.take_job(session, settings, owner_id, total)
    return new_to_schema(job, model, parts), messages


def held(session: Session, owner_id: UUID, job_id: UUID) -> Job:
    """A job of the owner's, locked until the transaction ends. Raises NotFound."""
    owned(session, Job, owner_id, job_id)
    return session.scalars(
        select(Job)
        .where(Job.id == job_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def read(session: Session, owner_id: UUID, job_id: UUID) -> schemas.Job:
    """A job of the owner's. Raises NotFound."""
    return to_schemas(session, [owned(session, Job, owner_id, job_id)])[0]


def list_jobs(
    session: Session,
    owner_id: UUID,
    *,
    state: str | None = None,
    model: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    oldest_first: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[schemas.Job]:
    """The owner's jobs, newest first or oldest first.

    `model` is a name, `name@version` or id.

    Raises:
        InvalidRequest: a bad cursor.
        NotFound: no such model.
    """
    query = select(Job).where(Job.owner_id == owner_id, Job.removed_at.is_(None))
    if state is not None:
        query = query.where(Job.state == state)
    if model is not None:
        query = query.where(Job.model_id.in_(models_named(session, owner_id, model)))
    if created_after is not None:
        query = query.where(Job.created_at >= created_after)
    if created_before is not None:
        query = query.where(Job.created_at < created_before)
    if cursor is not None:
        place = decode_id_cursor(cursor)
        query = query.where(Job.id > place if oldest_first else Job.id < place)
    limit = min(limit, MAX_PAGE)
    order = Job.id if oldest_first else Job.id.desc()
    rows = list(session.scalars(query.order_by(order).limit(limit + 1)))
    following = encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None
    return Page(
        items=skip_unreadable(rows[:limit], lambda some: to_schemas(session, some)),
        next_cursor=following,
    )


def cancel(session: Session, owner_id: UUID, job_id: UUID) -> tuple[schemas.Job, list[Message]]:
    """End a job now; what it has stored stays, and its workers stop at their next look.

    Raises:
        NotFound: no such job of the owner's.
        Conflict: the job has ended already.
    """
    job = held(session, owner_id, job_id)
    if job.state in ENDED:
        raise Conflict(f"Job {job_id} is {job.state} already; there is nothing to cancel.")
    moment = now(session)
    job.state, job.ended_at = "cancelled", moment
    batches.cancel_open(session, job_id, moment)
    session.flush()
    return to_schemas(session, [job])[0], [Message(MAKE_BATCHES)]
