"""Checking: whether rows and shards say the same, and making rows again from shards.

A shard holds all that the rows of its samples say, so rows that were lost or changed come back from
it; a shard that is lost or changed is made again from its job's request, by a worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from datagen.db.bulk import insert_samples
from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Job, Sample
from datagen.errors import InvalidFile
from datagen.queue import REPAIR_BATCH, Message
from datagen.schemas import ENDED
from datagen.service.stored_samples import StoredShard, read_stored
from datagen.shards import SampleBatch
from datagen.storage import Storage

SCORE_STEP = 5e-5


@dataclass(frozen=True)
class Checked:
    """What was found of one batch.

    Attributes:
        job_id, batch_id: whose.
        start, stop: its images.
        problem: what is wrong, in a sentence; None where all agrees.
        is_of_shard: whether the shard is what is wrong, and not the rows.
    """

    job_id: UUID
    batch_id: UUID
    start: int
    stop: int
    problem: str | None = None
    is_of_shard: bool = False


def check(engine: Engine, storage: Storage, job_id: UUID | None = None) -> Iterator[Checked]:
    """Compare the rows of every ended batch with its shard, batch by batch.

    Args:
        engine: the database.
        storage: where the shards lie.
        job_id: this job alone, if given.
    """
    for batch in _batches(engine, job_id):
        found = Checked(batch.job_id, batch.id, batch.start, batch.stop)
        shard = StoredShard(batch.start, batch.stop, str(batch.shard_key), str(batch.shard_digest))
        try:
            stored = SampleBatch.joined(list(read_stored(storage, shard)))
        except InvalidFile as error:
            yield _wrong(found, error.detail.partition(";")[0] + ".", of_shard=True)
            continue
        with reading(engine) as session:
            problem = _difference(session, batch, stored)
        yield found if problem is None else _wrong(found, problem)


def rebuild(
    engine: Engine, storage: Storage, job_id: UUID | None = None
) -> Iterator[tuple[Checked, Message | None]]:
    """Put right what `check` finds: rows from shards at once; for shards, what tells a worker."""
    for found in check(engine, storage, job_id):
        if found.problem is None:
            continue
        if found.is_of_shard:
            yield found, _asked(engine, found.batch_id)
            continue
        with reading(engine) as session:
            batch = session.get_one(Batch, found.batch_id)
        shard = StoredShard(batch.start, batch.stop, str(batch.shard_key), str(batch.shard_digest))
        stored = SampleBatch.joined(list(read_stored(storage, shard)))
        with writing(engine) as session:
            session.execute(
                delete(Sample).where(
                    Sample.job_id == found.job_id,
                    Sample.index >= found.start,
                    Sample.index < found.stop,
                )
            )
            insert_samples(session, found.job_id, stored)
        yield found, None


def _batches(engine: Engine, job_id: UUID | None) -> Iterator[Batch]:
    """Batches with a shard of jobs that have ended, one by one in the order of their ids."""
    last: UUID | None = None
    while True:
        query = (
            select(Batch)
            .join(Job, Job.id == Batch.job_id)
            .where(
                Batch.shard_key.is_not(None),
                Batch.state == "succeeded",
                Job.state.in_(sorted(ENDED)),
                Job.removed_at.is_(None),
            )
            .order_by(Batch.id)
            .limit(1)
        )
        if job_id is not None:
            query = query.where(Batch.job_id == job_id)
        if last is not None:
            query = query.where(Batch.id > last)
        with reading(engine) as session:
            batch = session.scalar(query)
        if batch is None:
            return
        yield batch
        last = batch.id


def _difference(session: Session, batch: Batch, stored: SampleBatch) -> str | None:
    """In what the rows of a batch differ from its shard."""
    rows = session.execute(
        select(Sample.index, Sample.label, Sample.score, Sample.digest)
        .where(
            Sample.job_id == batch.job_id, Sample.index >= batch.start, Sample.index < batch.stop
        )
        .order_by(Sample.index)
    ).all()
    images = f"Images {batch.start} to {batch.stop - 1}"
    order = np.argsort(stored.indices)
    indices = stored.indices[order].tolist()
    if [row.index for row in rows] != indices:
        return f"{images} have {len(rows):,} rows, and their shard has {len(indices):,} images."
    digests = [stored.digests[place] for place in order]
    labels, scores = stored.labels[order].tolist(), stored.scores[order].tolist()
    for row, digest, label, score in zip(rows, digests, labels, scores, strict=True):
        same_score = abs(row.score - score) < SCORE_STEP
        if row.digest != digest or row.label != label or not same_score:
            return f"The row of image {row.index} is not what its shard says."
    return None


def _wrong(found: Checked, problem: str, *, of_shard: bool = False) -> Checked:
    return Checked(found.job_id, found.batch_id, found.start, found.stop, problem, of_shard)


def _asked(engine: Engine, batch_id: UUID) -> Message:
    with writing(engine) as session:
        session.get_one(Batch, batch_id).repair_asked_at = now(session)
    return Message(REPAIR_BATCH, {"batch_id": str(batch_id)})
