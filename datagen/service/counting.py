"""Counting: what a job's labels have, in the transaction that closes a batch.

Counts are added and taken off again, and never made from the rows: those may be millions.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.tables import Job, JobLabel, Model
from datagen.quality.gate import REASONS
from datagen.service.batch_work import UNLABELLED, BatchResult, BatchWork, Refused
from datagen.shards import SampleBatch

SCORE_UNITS = 10_000
# Labels that an error counts the refused candidates of.
TOLD_LABELS = 5


def overlapping(session: Session, job_id: UUID, start: int, stop: int) -> Sequence[JobLabel]:
    """The parts of a job's plan that some of the images `start` to `stop` - 1 are of."""
    return session.scalars(
        select(JobLabel)
        .where(
            JobLabel.job_id == job_id,
            JobLabel.start < stop,
            JobLabel.start + JobLabel.requested > start,
        )
        .order_by(JobLabel.position)
    ).all()


def refusals(session: Session, job: Job) -> str:
    """What was refused, label by label, most first, in a few words."""
    session.flush()
    names = session.get_one(Model, job.model_id).class_names
    parts = session.scalars(select(JobLabel).where(JobLabel.job_id == job.id)).all()
    told = []
    for part in sorted(parts, key=lambda part: -sum(_refused(part).values())):
        counts = [f"{count:,} by {reason}" for reason, count in _refused(part).items() if count]
        if counts and part.label != UNLABELLED:
            told.append(f"label {names[part.label]!r}: {', '.join(counts)}")
    more = f"; and {len(told) - TOLD_LABELS} more labels" if len(told) > TOLD_LABELS else ""
    return "; ".join(told[:TOLD_LABELS]) + more


def refused_by_label(session: Session, job: Job, model: Model) -> dict[str, dict[str, int]]:
    """Candidates that a job's gate refused, by label and reason, where it refused any."""
    found: dict[str, dict[str, int]] = {}
    for part in session.scalars(
        select(JobLabel).where(JobLabel.job_id == job.id).order_by(JobLabel.position)
    ):
        counts = _refused(part)
        if part.label != UNLABELLED and any(counts.values()):
            told = found.setdefault(model.class_names[part.label], dict.fromkeys(counts, 0))
            for reason, count in counts.items():
                told[reason] += count
    return found


def _refused(part: JobLabel) -> dict[str, int]:
    return {reason: getattr(part, f"rejected_{reason}") for reason in REASONS}


def count(session: Session, job: Job, work: BatchWork, result: BatchResult) -> None:
    """Add what a worker made to the job and its labels, less what it made anew."""
    parts = overlapping(session, work.job_id, work.start, work.stop)
    _count_samples(session, job, parts, result.samples, 1)
    if result.replaced is not None:
        _count_samples(session, job, parts, result.replaced, -1)
    if result.refused is not None:
        _count_refused(session, job, parts, result.refused)
    for stage, seconds in result.seconds.items():
        column = f"seconds_{stage}"
        setattr(job, column, getattr(job, column) + seconds)


def _within(indices: np.ndarray, part: JobLabel) -> np.ndarray:
    return (indices >= part.start) & (indices < part.start + part.requested)


def _count_samples(
    session: Session, job: Job, parts: Sequence[JobLabel], samples: SampleBatch, sign: int
) -> None:
    """Count samples in (1), or out again (-1)."""
    units = sign * np.rint(samples.scores * SCORE_UNITS).astype(np.int64)
    agreed = samples.judged_labels == samples.labels
    for part in parts:
        own = _within(samples.indices, part)
        part.stored += sign * int(own.sum())
        part.score_sum += int(units[own].sum())
        part.agreed += sign * int(agreed[own].sum())
        if part.label == UNLABELLED:
            for label in np.unique(samples.labels[own]).tolist():
                row = label_row(session, job, label)
                alike = own & (samples.labels == label)
                row.stored += sign * int(alike.sum())
                row.score_sum += int(units[alike].sum())
                row.agreed += sign * int(alike.sum())
    job.images_stored += sign * len(samples.indices)


def _count_refused(session: Session, job: Job, parts: Sequence[JobLabel], refused: Refused) -> None:
    for part in parts:
        own = _within(refused.indices, part)
        part.short += int(_within(refused.short, part).sum())
        if part.label != UNLABELLED:
            _add_reasons(part, refused.reasons[own])
            continue
        for label in np.unique(refused.judged_labels[own]).tolist():
            alike = own & (refused.judged_labels == label)
            _add_reasons(label_row(session, job, label), refused.reasons[alike])
    job.images_short += len(refused.short)


def _add_reasons(part: JobLabel, reasons: np.ndarray) -> None:
    for number, reason in enumerate(REASONS, start=1):
        column = f"rejected_{reason}"
        setattr(part, column, getattr(part, column) + int((reasons == number).sum()))


def label_row(session: Session, job: Job, label: int) -> JobLabel:
    """The row of a label that the judge gave, which asks for nothing."""
    part = session.get(JobLabel, (job.id, label + 1))
    if part is None:
        part = JobLabel(
            job_id=job.id, position=label + 1, label=label, start=0, requested=0, stored=0,
            score_sum=0, agreed=0, rejected_score=0, rejected_copy=0, rejected_duplicate=0, short=0,
        )  # fmt: skip
        session.add(part)
    return part
