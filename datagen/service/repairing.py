"""Repair: shards that are missing or damaged, made again from what their job asked for.

An image follows from seed, index and attempt, and the rows in the database know the attempt of
each: nothing is judged or counted again. On the same kind of device the same shard comes out, byte
by byte; on another one the rows are brought to what it has now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, bindparam, or_, select, update
from sqlalchemy.orm import Session

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Job, Model, Sample
from datagen.errors import InvalidFile
from datagen.queue import REPAIR_BATCH, Message
from datagen.service import batch_reading, sharing
from datagen.service.batch_work import BatchWork
from datagen.settings import Settings
from datagen.shards import SampleBatch
from datagen.storage import Storage, digest_of

NAMED_SHARDS = 3


def ask_for_damaged(
    engine: Engine,
    storage: Storage,
    settings: Settings,
    job_ids: Sequence[UUID],
    check: Callable[[], None] = lambda: None,
) -> list[Message] | None:
    """Have the damaged shards of some jobs made again.

    Args:
        engine: the database.
        storage: where the shards lie.
        settings: after how long a message counts as lost.
        job_ids: the jobs.
        check: called at every shard; raises to stop.

    Returns:
        None where all are whole; else the messages that have them made again, none where all of
        them are being made already.

    Raises:
        InvalidFile: shards that could not be made again.
    """
    found = [
        batch_id for job_id in job_ids for batch_id in _damaged(engine, storage, job_id, check)
    ]
    if not found:
        return None
    with writing(engine) as session:
        _refuse_failed(session, found)
        moment = now(session)
        lost = moment - timedelta(seconds=settings.resend_seconds)
        asked = session.scalars(
            update(Batch)
            .where(
                Batch.id.in_(found),
                or_(Batch.repair_asked_at.is_(None), Batch.repair_asked_at < lost),
            )
            .values(repair_asked_at=moment)
            .returning(Batch.id)
        ).all()
    return [Message(REPAIR_BATCH, {"batch_id": str(batch_id)}) for batch_id in asked]


def _damaged(
    engine: Engine, storage: Storage, job_id: UUID, check: Callable[[], None]
) -> list[UUID]:
    with reading(engine) as session:
        rows = session.execute(
            select(Batch.id, Batch.shard_key, Batch.shard_digest)
            .where(Batch.job_id == job_id, Batch.state == "succeeded")
            .order_by(Batch.start)
        ).all()
    damaged = []
    for batch_id, key, digest in rows:
        check()
        if _digest(storage, str(key)) != digest:
            damaged.append(batch_id)
    return damaged


def _digest(storage: Storage, key: str) -> str | None:
    try:
        with storage.open(key) as file:
            return digest_of(file)
    except FileNotFoundError:
        return None


def _refuse_failed(session: Session, batch_ids: Sequence[UUID]) -> None:
    failed = session.execute(
        select(Batch.start, Batch.stop, Batch.repair_error)
        .where(Batch.id.in_(batch_ids), Batch.repair_error.is_not(None))
        .order_by(Batch.start)
        .limit(NAMED_SHARDS)
    ).all()
    if failed:
        # The next export may try again.
        session.execute(update(Batch).where(Batch.id.in_(batch_ids)).values(repair_error=None))
        session.commit()
        told = "; ".join(f"images {start} to {stop - 1}: {why}" for start, stop, why in failed)
        raise InvalidFile(f"Damaged shards could not be made again: {told}")


@dataclass(frozen=True)
class RepairWork:
    """What a worker needs to know to make a shard again.

    Attributes:
        batch: the batch as it was when it was made, without a gate.
        digest: SHA-256 that the shard should have.
        indices, attempts: of its images, int64 (n,).
        labels: those that were asked for, int64 (n,); UNLABELLED where the judge gives them.
    """

    batch: BatchWork
    digest: str
    indices: np.ndarray
    attempts: np.ndarray
    labels: np.ndarray


def work_of(session: Session, batch_id: UUID) -> RepairWork | None:
    """What is to be made again; None where there is no such batch, or none that was made.

    Raises:
        Conflict, Forbidden: the job's owner may make no more images with its model.
    """
    batch = session.get(Batch, batch_id)
    if batch is None or batch.shard_digest is None:
        return None
    job = session.get_one(Job, batch.job_id)
    model = session.get_one(Model, job.model_id)
    sharing.refuse_withdrawn(model, job.owner_id)
    work = batch_reading.work_of(session, batch, job, model)
    rows = session.execute(
        select(Sample.index, Sample.attempt)
        .where(Sample.job_id == job.id, Sample.index >= batch.start, Sample.index < batch.stop)
        .order_by(Sample.index)
    ).all()
    indices = np.array([row.index for row in rows], dtype=np.int64)
    return RepairWork(
        batch=work,
        digest=batch.shard_digest,
        indices=indices,
        attempts=np.array([row.attempt for row in rows], dtype=np.int64),
        labels=work.labels()[indices - batch.start],
    )


def record(
    session: Session, work: RepairWork, samples: SampleBatch, key: str, digest: str, size: int
) -> None:
    """Note that a shard was made again; rows follow where its images differ."""
    session.execute(
        update(Batch)
        .where(Batch.id == work.batch.batch_id, Batch.shard_digest == work.digest)
        .values(
            shard_key=key,
            shard_digest=digest,
            shard_bytes=size,
            repair_asked_at=None,
            repair_error=None,
        )
    )
    if digest == work.digest:
        return
    changed = (
        update(Sample)
        .where(Sample.job_id == work.batch.job_id, Sample.index == bindparam("at"))
        .values(
            label=bindparam("new_label"),
            score=bindparam("new_score"),
            judged_label=bindparam("new_judged"),
            digest=bindparam("new_digest"),
        )
    )
    session.connection().execute(
        changed,
        [
            {"at": at, "new_label": label, "new_score": score, "new_judged": judged,
             "new_digest": found}
            for at, label, score, judged, found in zip(
                samples.indices.tolist(), samples.labels.tolist(), samples.scores.tolist(),
                samples.judged_labels.tolist(), samples.digests, strict=True,
            )
        ],
    )  # fmt: skip


def fail(session: Session, batch_id: UUID, reason: str) -> None:
    """Note that a shard could not be made again."""
    session.execute(
        update(Batch).where(Batch.id == batch_id).values(repair_asked_at=None, repair_error=reason)
    )
