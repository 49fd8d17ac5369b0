"""Settling: the closing pass of a job that wants no image twice.

What depends on other images cannot be decided image by image. When all are there, those that are
the same pixel by pixel are found: the lowest index keeps its image, the others are drawn anew, all
together, from their next attempt on. That is repeated until no two are the same, so what comes out
depends neither on the order of batches nor on their size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Job, JobLabel, Redraw, Sample
from datagen.queue import RUN_BATCH, SETTLE_JOB, Message
from datagen.schemas import ENDED
from datagen.service import batch_work, batches, counting
from datagen.settings import Settings

# Rows that a statement names.
_AT_ONCE = 500


def settle(engine: Engine, job_id: UUID) -> list[Message]:
    """End a job without duplicates, or have those that it has drawn anew; what is to be sent.

    Does nothing where the job is not whole. Safe to call twice: a round that another worker
    began meanwhile is left to that worker.
    """
    with reading(engine) as session:
        job = session.get(Job, job_id)
        if job is None or job.state in ENDED or not batches.is_whole(session, job):
            return []
        seen = job.rounds
        twice, labels = _duplicates(session, job_id)
    with writing(engine) as session:
        job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
        if job.rounds != seen or job.state in ENDED or not batches.is_whole(session, job):
            return []
        if not len(twice):
            return batches.succeed(session, job, now(session))
        _count(session, job, twice, labels)
        return _begin_round(session, job, twice)


def _duplicates(session: Session, job_id: UUID) -> tuple[np.ndarray, np.ndarray]:
    """Indices of images that a lower index has too, rising, and their labels; int64 (R,)."""
    place = func.row_number().over(partition_by=Sample.digest, order_by=Sample.index)
    numbered = (
        select(Sample.index, Sample.label, place.label("place"))
        .where(Sample.job_id == job_id)
        .subquery()
    )
    rows = session.execute(
        select(numbered.c.index, numbered.c.label)
        .where(numbered.c.place > 1)
        .order_by(numbered.c.index)
    )
    found = np.fromiter(
        map(tuple, rows), dtype=np.dtype([("index", np.int64), ("label", np.int64)])
    )
    return found["index"], found["label"]


def _begin_round(session: Session, job: Job, twice: np.ndarray) -> list[Message]:
    """Open the batches again in which images are to be drawn anew."""
    job.rounds += 1
    session.execute(
        insert(Redraw), [{"job_id": job.id, "index": index} for index in twice.tolist()]
    )
    moment = now(session)
    ids = _holding(session, job.id, twice)
    for start in range(0, len(ids), _AT_ONCE):
        session.execute(
            update(Batch)
            .where(Batch.id.in_(ids[start : start + _AT_ONCE]))
            .values(
                state="queued",
                attempt_floor=Batch.attempt,
                available_at=moment,
                sent_at=moment,
                ended_at=None,
            )
        )
    return [Message(RUN_BATCH, {"batch_id": str(batch_id)}) for batch_id in ids]


def _count(session: Session, job: Job, twice: np.ndarray, labels: np.ndarray) -> None:
    parts = session.scalars(
        select(JobLabel).where(JobLabel.job_id == job.id, JobLabel.requested > 0)
    ).all()
    if parts[0].label == batch_work.UNLABELLED:
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            counting.label_row(session, job, int(label)).rejected_duplicate += int(count)
        return
    for part in parts:
        first, last = np.searchsorted(twice, [part.start, part.start + part.requested])
        part.rejected_duplicate += int(last - first)


def _holding(session: Session, job_id: UUID, indices: np.ndarray) -> Sequence[UUID]:
    """The batches that the images lie in."""
    rows = session.execute(
        select(Batch.start, Batch.id).where(Batch.job_id == job_id).order_by(Batch.start)
    ).all()
    starts = [row.start for row in rows]
    at = dict.fromkeys(bisect_right(starts, index) - 1 for index in indices.tolist())
    return [rows[place].id for place in at]


def unsettled(session: Session, settings: Settings) -> list[Message]:
    """Jobs that wait for their closing pass, and whose message was lost; marks them as told."""
    moment = now(session)
    forgotten = moment - timedelta(seconds=settings.resend_seconds)
    waiting = session.scalars(
        select(Job).where(
            Job.state == "running",
            Job.settle_sent_at.is_not(None),
            Job.settle_sent_at < forgotten,
            Job.images_stored + Job.images_short >= Job.images_requested,
        )
    ).all()
    messages = []
    for job in waiting:
        if batches.is_whole(session, job):
            job.settle_sent_at = moment
            messages.append(Message(SETTLE_JOB, {"job_id": str(job.id)}))
    return messages
