"""What the database knows of a batch, as whoever makes it needs it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from datagen.db.tables import Batch, Job, Model, Redraw
from datagen.schemas import Gate
from datagen.service.batch_work import BatchWork, Stretch
from datagen.service.counting import overlapping
from datagen.service.model_files import ModelFiles, StoredFile


def work_of(session: Session, batch: Batch, job: Job, model: Model) -> BatchWork:
    """All that a worker needs to know of a batch."""
    made = None
    if batch.shard_key is not None and batch.shard_digest is not None:
        made = StoredFile(batch.shard_key, batch.shard_digest)
    return BatchWork(
        batch_id=batch.id,
        job_id=job.id,
        attempt=batch.attempt,
        start=batch.start,
        stop=batch.stop,
        stretches=tuple(_stretches(session, job.id, batch.start, batch.stop)),
        seed=job.seed,
        sampler=job.sampler,
        temperature=job.temperature,
        truncation=job.truncation,
        strength=job.strength,
        class_names=tuple(model.class_names),
        model_name=model.name,
        model_version=model.version,
        files=ModelFiles.of(model),
        gate=gate_of(job),
        made=made,
        redraws=tuple(session.scalars(redraws_within(job.id, batch.start, batch.stop)))
        if made
        else (),
    )


def gate_of(job: Job) -> Gate | None:
    """What a job's images must pass."""
    return None if job.gate is None else Gate.model_validate(job.gate)


def redraws_within(job_id: UUID, start: int, stop: int) -> Select[int]:
    """The query for the images `start` to `stop` - 1 that the closing pass makes anew."""
    return (
        select(Redraw.index)
        .where(Redraw.job_id == job_id, Redraw.index >= start, Redraw.index < stop)
        .order_by(Redraw.index)
    )


def _stretches(session: Session, job_id: UUID, start: int, stop: int) -> list[Stretch]:
    return [
        Stretch(part.label, max(start, part.start), min(stop, part.start + part.requested))
        for part in overlapping(session, job_id, start, stop)
    ]
