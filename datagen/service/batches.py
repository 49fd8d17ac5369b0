"""Batches: cut from jobs within a window, claimed by workers, closed once.

Order of locks: the job's row first, then its batches'. Whoever changes both keeps to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import ScalarSelect, func, select, update
from sqlalchemy.orm import Session

from datagen.db.bulk import insert_samples
from datagen.db.session import now
from datagen.db.tables import Batch, Export, Job, JobLabel, Model, new_id
from datagen.queue import MAKE_BATCHES, RUN_BATCH, RUN_EXPORT, Message
from datagen.service import claims
from datagen.settings import Settings
from datagen.shards import SampleBatch

# A first batch of one decode tile, so that the first images of a job are there at once.
FIRST_BATCH = 256
SCORE_UNITS = 10_000
OPEN = ("queued", "running")
# Images of a model that knows no labels: the judge gives each its own.
UNLABELLED = -1


@dataclass(frozen=True)
class Stretch:
    """Images `start` to `stop` - 1 of a job carry `label`, or none that was asked for."""

    label: int
    start: int
    stop: int


@dataclass(frozen=True)
class BatchWork:
    """All that a worker needs to know to make a batch it has claimed."""

    batch_id: UUID
    job_id: UUID
    attempt: int
    start: int
    stop: int
    stretches: tuple[Stretch, ...]
    seed: int
    sampler: str
    temperature: float
    truncation: float | None
    class_names: tuple[str, ...]
    model_name: str
    model_version: int
    model_digest: str
    checkpoint_key: str
    judge_digest: str
    judge_key: str
    examples_digest: str | None
    examples_key: str | None

    def labels(self) -> np.ndarray:
        """The label of every image of the batch, int64 of shape (stop - start,)."""
        values = [stretch.label for stretch in self.stretches]
        counts = [stretch.stop - stretch.start for stretch in self.stretches]
        return np.repeat(np.asarray(values, dtype=np.int64), counts)


@dataclass(frozen=True)
class BatchResult:
    """What a worker made: the shard that it stored, its rows, and the seconds of each stage."""

    shard_key: str
    shard_digest: str
    shard_bytes: int
    device: str
    torch_version: str
    samples: SampleBatch
    seconds: dict[str, float]


def make_batches(session: Session, settings: Settings, most: int | None = None) -> list[Message]:
    """Cut batches, job by job in turn, until the window is full; returns the messages to send.

    Args:
        session: in the transaction that cuts them.
        settings: the window.
        most: no more than this many now; a message asks for the others.
    """
    outstanding = session.scalar(
        select(func.count()).select_from(Batch).where(Batch.state.in_(OPEN))
    )
    free = settings.window - (outstanding or 0)
    room = free if most is None else min(free, most)
    if room <= 0:
        return []
    waiting = list(
        session.scalars(
            select(Job)
            .where(Job.state.in_(OPEN), Job.next_index < Job.images_requested)
            .order_by(_open_batches(), Job.id)
            .limit(room)
            .with_for_update(skip_locked=True, of=Job)
        )
    )
    moment = now(session)
    made: list[tuple[Job, Batch]] = []
    while waiting and len(made) < room:
        made += [(job, _cut(job, moment)) for job in waiting[: room - len(made)]]
        waiting = [job for job in waiting if job.next_index < job.images_requested]
    session.add_all(batch for _, batch in made)
    session.flush()
    messages = [_told(job, batch) for job, batch in made]
    if waiting and room < free:
        messages.append(Message(MAKE_BATCHES))
    return messages


def _told(job: Job, batch: Batch) -> Message:
    # Somebody looks at the first images of a job, and waits for the whole of a small one.
    urgent = batch.start == 0 or job.images_requested <= job.batch_size
    return Message(RUN_BATCH, {"batch_id": str(batch.id)}, urgent=urgent)


def _open_batches() -> ScalarSelect[int]:
    return (
        select(func.count())
        .where(Batch.job_id == Job.id, Batch.state.in_(OPEN))
        .correlate(Job)
        .scalar_subquery()
    )


def _cut(job: Job, moment: datetime) -> Batch:
    size = min(job.batch_size, FIRST_BATCH) if job.next_index == 0 else job.batch_size
    start = job.next_index
    job.next_index = min(start + size, job.images_requested)
    return Batch(
        id=new_id(),
        job_id=job.id,
        start=start,
        stop=job.next_index,
        state="queued",
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )


def claim(session: Session, settings: Settings, batch_id: UUID) -> BatchWork | None:
    """Take a batch; None where somebody has it, had it, or its job has ended."""
    job_id = session.scalar(select(Batch.job_id).where(Batch.id == batch_id))
    if job_id is None:
        return None
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    batch = claims.claim(session, settings, Batch, batch_id) if job.state in OPEN else None
    if batch is None:
        return None
    if job.state == "queued":
        job.state, job.started_at = "running", now(session)
    model = session.get_one(Model, job.model_id)
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
        class_names=tuple(model.class_names),
        model_name=model.name,
        model_version=model.version,
        model_digest=str(model.digest),
        checkpoint_key=str(model.checkpoint_key),
        judge_digest=str(model.judge_digest),
        judge_key=str(model.judge_key),
        examples_digest=model.examples_digest,
        examples_key=model.examples_key,
    )


def _overlapping(session: Session, job_id: UUID, start: int, stop: int) -> Sequence[JobLabel]:
    return session.scalars(
        select(JobLabel)
        .where(
            JobLabel.job_id == job_id,
            JobLabel.start < stop,
            JobLabel.start + JobLabel.requested > start,
        )
        .order_by(JobLabel.position)
    ).all()


def _stretches(session: Session, job_id: UUID, start: int, stop: int) -> list[Stretch]:
    return [
        Stretch(part.label, max(start, part.start), min(stop, part.start + part.requested))
        for part in _overlapping(session, job_id, start, stop)
    ]


def still_held(session: Session, work: BatchWork) -> bool:
    """Whether the batch is still the claimant's: not cancelled, not taken over."""
    row = session.execute(
        select(Batch.id).where(claims.held(Batch, work.batch_id, work.attempt))
    ).first()
    return row is not None


def close(session: Session, work: BatchWork, result: BatchResult) -> list[Message] | None:
    """Record a batch, and its job where it was the last; None where it is no longer theirs.

    Nothing is written in that case: the shard of a worker that was overtaken is nobody's.
    """
    job = session.scalars(select(Job).where(Job.id == work.job_id).with_for_update()).one()
    moment = now(session)
    closed = session.execute(
        update(Batch)
        .where(claims.held(Batch, work.batch_id, work.attempt))
        .values(
            state="succeeded",
            lease_until=None,
            error=None,
            ended_at=moment,
            shard_key=result.shard_key,
            shard_digest=result.shard_digest,
            shard_bytes=result.shard_bytes,
            device=result.device,
            torch_version=result.torch_version,
        )
        .returning(Batch.id)
    ).first()
    if closed is None:
        return None
    insert_samples(session, work.job_id, result.samples)
    _count(session, job, work, result)
    messages = [Message(MAKE_BATCHES)] if _more_to_cut(session) else []
    if job.images_stored == job.images_requested:
        job.state, job.ended_at = "succeeded", moment
        messages += _follow(session, job, moment)
    return messages


def _count(session: Session, job: Job, work: BatchWork, result: BatchResult) -> None:
    samples = result.samples
    units = np.rint(samples.scores * SCORE_UNITS).astype(np.int64)
    agreed = samples.judged_labels == samples.labels
    for part in _overlapping(session, work.job_id, work.start, work.stop):
        here = slice(
            max(0, part.start - work.start),
            min(work.stop, part.start + part.requested) - work.start,
        )
        part.stored += here.stop - here.start
        part.score_sum += int(units[here].sum())
        part.agreed += int(agreed[here].sum())
        if part.label == UNLABELLED:
            _count_found(session, job, samples.labels[here], units[here])
    job.images_stored += work.stop - work.start
    for stage, seconds in result.seconds.items():
        column = f"seconds_{stage}"
        setattr(job, column, getattr(job, column) + seconds)


def _count_found(session: Session, job: Job, labels: np.ndarray, units: np.ndarray) -> None:
    """Count the labels that the judge gave, in rows of their own that ask for nothing."""
    for label in np.unique(labels).tolist():
        own = labels == label
        part = session.get(JobLabel, (job.id, label + 1))
        if part is None:
            part = JobLabel(
                job_id=job.id, position=label + 1, label=label, start=0, requested=0,
                stored=0, score_sum=0, agreed=0,
            )  # fmt: skip
            session.add(part)
        part.stored += int(own.sum())
        part.score_sum += int(units[own].sum())
        part.agreed += int(own.sum())


def _more_to_cut(session: Session) -> bool:
    return (
        session.execute(
            select(Job.id)
            .where(Job.state.in_(OPEN), Job.next_index < Job.images_requested)
            .limit(1)
        ).first()
        is not None
    )


def _follow(session: Session, job: Job, moment: datetime) -> list[Message]:
    exports = [
        Export(
            id=new_id(),
            owner_id=job.owner_id,
            job_id=job.id,
            format=name,
            state="queued",
            images_total=job.images_stored,
            created_at=moment,
            available_at=moment,
            sent_at=moment,
        )
        for name in job.follow_exports
    ]
    session.add_all(exports)
    session.flush()
    return [Message(RUN_EXPORT, {"export_id": str(export.id)}) for export in exports]


def release(session: Session, settings: Settings, work: BatchWork, reason: str) -> bool:
    """Give a batch back after a failure that may pass; at the last attempt it fails instead."""
    if work.attempt >= settings.max_attempts:
        return fail(session, work.batch_id, work.attempt, reason)
    return claims.release(session, settings, Batch, work.batch_id, work.attempt, reason)


def fail(session: Session, batch_id: UUID, attempt: int, reason: str) -> bool:
    """End a batch and with it its job; what other batches have stored stays.

    Returns False where the batch has meanwhile moved on.
    """
    job_id = session.scalar(select(Batch.job_id).where(Batch.id == batch_id))
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    moment = now(session)
    failed = session.execute(
        update(Batch)
        .where(Batch.id == batch_id, Batch.attempt == attempt, Batch.state.in_(OPEN))
        .values(state="failed", error=reason, lease_until=None, ended_at=moment)
        .returning(Batch.start, Batch.stop)
    ).first()
    if failed is None:
        return False
    if job.state in OPEN:
        job.state, job.ended_at = "failed", moment
        job.error = (
            f"Images {failed.start} to {failed.stop - 1} could not be made "
            f"in {attempt} attempt{'' if attempt == 1 else 's'}: {reason}"
        )
        cancel_open(session, job.id, moment)
    return True


def cancel_open(session: Session, job_id: UUID, moment: datetime) -> None:
    """Cancel all batches of a job that are not closed; their workers find out and stop."""
    session.execute(
        update(Batch)
        .where(Batch.job_id == job_id, Batch.state.in_(OPEN))
        .values(state="cancelled", lease_until=None, ended_at=moment)
    )
