"""Samples: reading what a job has stored, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.tables import Batch, Job, JobLabel, Model, Sample
from datagen.errors import NotFound, UnknownLabel
from datagen.schemas import Page
from datagen.service.common import MAX_PAGE, decode_index_cursor, encode_cursor, owned
from datagen.service.unreadable_rows import skip_unreadable
from datagen.shards import read_sample as read_shard_sample
from datagen.storage import Storage

LISTED_LABELS = 20


def list_samples(
    session: Session,
    owner_id: UUID,
    job_id: UUID,
    *,
    label: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[schemas.Sample]:
    """The samples that a job has stored, by index.

    Raises:
        NotFound: no such job of the owner's.
        UnknownLabel: a label that the job's model does not know.
        InvalidRequest: a bad cursor.
    """
    job = owned(session, Job, owner_id, job_id)
    names = session.get_one(Model, job.model_id).class_names
    query = select(Sample).where(Sample.job_id == job_id).order_by(Sample.index)
    if label is not None:
        query = query.where(Sample.label == label_number(names, label))
        first, last = range_of(session, job_id, names.index(label))
        # A label that was asked for is a range of indices: the primary key finds it, whatever the
        # job's size. Those that the judge gave may stand anywhere.
        if last:
            query = query.where(Sample.index >= first, Sample.index < last)
    if cursor is not None:
        query = query.where(Sample.index > decode_index_cursor(cursor))
    limit = min(limit, MAX_PAGE)
    rows = list(session.scalars(query.limit(limit + 1)))
    following = encode_cursor(rows[limit - 1].index) if len(rows) > limit else None
    items = skip_unreadable(rows[:limit], lambda some: [_sample(job, row, names) for row in some])
    return Page(items=items, next_cursor=following)


def label_number(names: Sequence[str], label: str) -> int:
    """The number of a label that is named. Raises UnknownLabel."""
    if label not in names:
        known = ", ".join(names[:LISTED_LABELS])
        raise UnknownLabel(
            f"The job's model has no label {label[:80]!r}; it knows {known}.", field="label"
        )
    return names.index(label)


def range_of(session: Session, job_id: UUID, label: int) -> tuple[int, int]:
    """Where a label's images begin and end in a job's plan; 0, 0 where the judge labels them."""
    first, last = session.execute(
        select(func.min(JobLabel.start), func.max(JobLabel.start + JobLabel.requested)).where(
            JobLabel.job_id == job_id, JobLabel.label == label
        )
    ).one()
    return (first or 0), (last or 0)


def read_sample(session: Session, owner_id: UUID, job_id: UUID, index: int) -> schemas.Sample:
    """One sample's metadata. Raises NotFound."""
    job = owned(session, Job, owner_id, job_id)
    names = session.get_one(Model, job.model_id).class_names
    return _sample(job, _stored_sample(session, job_id, index), names)


def sample_image(
    session: Session, storage: Storage, owner_id: UUID, job_id: UUID, index: int
) -> bytes:
    """One sample's PNG. Raises NotFound."""
    owned(session, Job, owner_id, job_id)
    _stored_sample(session, job_id, index)
    batch = session.scalars(
        select(Batch).where(Batch.job_id == job_id, Batch.start <= index, Batch.stop > index)
    ).one()
    # Images that a gate left out take no row of the shard.
    row = session.scalar(
        select(func.count()).where(
            Sample.job_id == job_id, Sample.index >= batch.start, Sample.index < index
        )
    )
    try:
        with storage.open(str(batch.shard_key)) as shard:
            return read_shard_sample(shard, row or 0)
    except FileNotFoundError:
        raise NotFound(
            f"The shard {batch.shard_key} of job {job_id} is missing from the storage."
        ) from None


def _stored_sample(session: Session, job_id: UUID, index: int) -> Sample:
    row = session.get(Sample, (job_id, index)) if 0 <= index < 2**63 else None
    if row is None:
        raise NotFound(f"Job {job_id} has stored no sample {index}.")
    return row


def _sample(job: Job, row: Sample, names: Sequence[str]) -> schemas.Sample:
    sources = [row.first_source, row.second_source]
    return schemas.Sample(
        index=row.index,
        label=names[row.label],
        score=row.score,
        judged_label=names[row.judged_label],
        attempt=row.attempt,
        sampler=job.sampler,
        sources=[source for source in sources if source >= 0],
        digest=row.digest.hex(),
    )
