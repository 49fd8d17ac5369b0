"""Following: which jobs have changed since somebody looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.tables import Job
from datagen.service.common import owned
from datagen.service.job_views import to_schemas
from datagen.service.unreadable_rows import skip_unreadable

# Ids that a statement names.
_AT_ONCE = 500


def read(session: Session, owner_id: UUID, job_id: UUID) -> tuple[int, schemas.Job]:
    """A job of the owner's with its revision. Raises NotFound."""
    job = owned(session, Job, owner_id, job_id)
    return job.revision, to_schemas(session, [job])[0]


def changed(
    session: Session, known: Mapping[UUID, int]
) -> Sequence[tuple[UUID, int, schemas.Job | None]]:
    """The jobs whose revision is no longer the known one, as they are now.

    None stands for a job that is removed, and for one that cannot be shown: its followers alone
    lose it.
    """
    found: list[tuple[UUID, int, schemas.Job | None]] = []
    ids = iter(known)
    while some := list(islice(ids, _AT_ONCE)):
        rows = session.execute(
            select(Job.id, Job.revision, Job.removed_at).where(Job.id.in_(some))
        ).all()
        there = {row.id for row in rows if row.removed_at is None}
        moved = [row.id for row in rows if row.id in there and row.revision != known[row.id]]
        if moved:
            jobs = session.scalars(select(Job).where(Job.id.in_(moved))).all()
            views = skip_unreadable(jobs, lambda some: to_schemas(session, some))
            by_id = {view.id: view for view in views}
            found += [(job.id, job.revision, by_id.get(job.id)) for job in jobs]
        found += [(job_id, known[job_id] + 1, None) for job_id in some if job_id not in there]
    return found
