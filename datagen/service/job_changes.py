"""Changes of jobs after their creation: more images, another try, removal."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Export, ExportJob, Job, JobLabel, Model, Redraw, Report, Sample
from datagen.errors import Conflict, InvalidRequest
from datagen.queue import REMOVE_JOBS, Message
from datagen.schemas import ENDED, Gate, JobExtend
from datagen.service import batch_work, batches, job_plans, quotas, sharing
from datagen.service.job_views import to_schemas
from datagen.service.jobs import CUT_AT_ONCE, held
from datagen.settings import Settings
from datagen.storage import Storage

NAMED_REFERRERS = 3


def extend(
    session: Session, settings: Settings, owner_id: UUID, job_id: UUID, wanted: JobExtend
) -> tuple[schemas.Job, list[Message]]:
    """Have a job make more images: the next indices, by the same seed.

    Raises:
        NotFound: no such job of the owner's.
        Conflict: the job has failed or was cancelled, an export of it is being written, or its
            model was removed.
        Forbidden: its model is another owner's, who does not share it any more.
        UnknownLabel, InvalidRequest, QuotaExceeded: as for a new job.
    """
    job = held(session, owner_id, job_id)
    if job.state in {"failed", "cancelled"}:
        raise Conflict(f"Job {job_id} is {job.state}; have it retried first, or create another.")
    refuse_while_exported(session, job_id)
    model = session.get_one(Model, job.model_id)
    sharing.refuse_withdrawn(model, owner_id)
    unlabelled = _is_unlabelled(session, job_id)
    if unlabelled != (wanted.count is not None):
        ways = "'count'" if unlabelled else "'labels', 'all' or 'balance'"
        raise InvalidRequest(f"Job {job_id} can be extended by {ways} alone.", field="labels")
    counts, notes = job_plans.counts_of(session, owner_id, wanted, model)
    total = sum(count for _, count in counts)
    take = quotas.take_job if job.state in ENDED else quotas.take_images
    more = _taken_more(job, total)
    if unlabelled:
        session.get_one(JobLabel, (job_id, 0)).requested += total
    else:
        last = session.scalar(select(func.max(JobLabel.position)).where(JobLabel.job_id == job_id))
        start, position = job.images_requested, (-1 if last is None else last) + 1
        session.add_all(job_plans.stretches(job_id, counts, position=position, start=start))
    job.images_requested += total
    job.notes = list(dict.fromkeys([*(job.notes or []), *notes]))
    reopen(job)
    session.flush()
    take(session, settings, owner_id, more)
    messages = batches.make_batches(session, settings, most=CUT_AT_ONCE)
    return to_schemas(session, [job])[0], messages


def _taken_more(job: Job, total: int) -> int:
    """Images that the job takes of the quota beyond what it takes now."""
    if job.state not in ENDED:
        return total
    return job.images_requested - job.images_stored + total


def _is_unlabelled(session: Session, job_id: UUID) -> bool:
    first = session.get(JobLabel, (job_id, 0))
    return first is not None and first.label == batch_work.UNLABELLED


def retry(
    session: Session, settings: Settings, owner_id: UUID, job_id: UUID
) -> tuple[schemas.Job, list[Message]]:
    """Have a job that failed or was cancelled go on where it ended; what it has stored stays.

    Raises:
        NotFound: no such job of the owner's.
        Conflict: it goes on, has succeeded, its gate let too few images pass, or its model was
            removed.
        Forbidden: its model is another owner's, who does not share it any more.
        QuotaExceeded: more images, or more jobs at once, than the owner may have by now.
    """
    job = held(session, owner_id, job_id)
    if job.state not in {"failed", "cancelled"}:
        raise Conflict(
            f"Job {job_id} is {job.state}; only one that failed or was cancelled can be retried."
        )
    sharing.refuse_withdrawn(session.get_one(Model, job.model_id), owner_id)
    gate = None if job.gate is None else Gate.model_validate(job.gate)
    if gate is not None and job.images_short and gate.on_shortfall == "fail":
        raise Conflict(
            f"Job {job_id} failed at its gate, and the same request would fail there again; create "
            'a job with a lower `min_score`, or with `on_shortfall` set to "keep".'
        )
    reopen(job)
    session.flush()
    quotas.take_job(session, settings, owner_id, job.images_requested - job.images_stored)
    messages = batches.reopen(session, job)
    messages += batches.make_batches(session, settings, most=CUT_AT_ONCE)
    return to_schemas(session, [job])[0], messages


def reopen(job: Job) -> None:
    """Have an ended job go on."""
    job.state = "queued" if job.started_at is None else "running"
    job.error = job.ended_at = None


def refuse_while_exported(session: Session, job_id: UUID) -> None:
    """Refuse to change what an export is about to read. Raises Conflict."""
    export_id = session.scalar(
        select(Export.id)
        .join(ExportJob, ExportJob.export_id == Export.id)
        .where(ExportJob.job_id == job_id, Export.state.not_in(sorted(ENDED)))
        .limit(1)
    )
    if export_id is not None:
        raise Conflict(f"Export {export_id} of job {job_id} is being written; wait for its end.")


def remove(session: Session, owner_id: UUID, job_id: UUID, *, force: bool = False) -> list[Message]:
    """Take an ended job away for good, with its images; exports of it stay as they are.

    Its rows and files go piece by piece afterwards. Of a job that exports or reports still name, a
    line without images is kept for them.

    Raises:
        NotFound: no such job of the owner's.
        Conflict: it goes on, or exports or reports name it and `force` is not set.
    """
    job = held(session, owner_id, job_id)
    if job.state not in ENDED:
        raise Conflict(f"Job {job_id} is {job.state}; cancel it before it is removed.")
    refuse_while_exported(session, job_id)
    named = _referrers(session, job_id)
    if named and not force:
        shown_ones = ", ".join(named[:NAMED_REFERRERS])
        more = f" and {len(named) - NAMED_REFERRERS} more" if len(named) > NAMED_REFERRERS else ""
        raise Conflict(
            f"Job {job_id} is named by {shown_ones}{more}; remove these first, or remove it with "
            "'force', which leaves them as they are."
        )
    job.removed_at = now(session)
    return [Message(REMOVE_JOBS)]


def _referrers(session: Session, job_id: UUID) -> list[str]:
    exports = session.scalars(select(ExportJob.export_id).where(ExportJob.job_id == job_id))
    reports = session.scalars(select(Report.id).where(Report.job_id == job_id))
    return [f"export {one}" for one in exports] + [f"report {one}" for one in reports]


def expire(session: Session) -> list[Message]:
    """Remove jobs whose days are over; tells of those, too, whose message was lost before."""
    moment = now(session)
    kept = select(Job).where(
        Job.retention_days.is_not(None), Job.ended_at.is_not(None), Job.removed_at.is_(None)
    )
    over = [
        job
        for job in session.scalars(kept)
        if job.ended_at is not None
        and job.ended_at + timedelta(days=job.retention_days or 0) <= moment
    ]
    for job in over:
        job.removed_at = moment
    lost = select(Job.id).join(Batch, Batch.job_id == Job.id).where(Job.removed_at.is_not(None))
    return [Message(REMOVE_JOBS)] if over or session.scalar(lost.limit(1)) else []


def clear_removed(engine: Engine, storage: Storage) -> int:
    """Delete rows and files of removed jobs, batch by batch; returns how many jobs are cleared.

    Safe to be cut off, and to be run by two at once.
    """
    with reading(engine) as session:
        removed = session.scalars(select(Job.id).where(Job.removed_at.is_not(None))).all()
    cleared = 0
    for job_id in removed:
        while _clear_batch(engine, storage, job_id):
            pass
        with writing(engine) as session:
            cleared += _clear_job(session, job_id)
    return cleared


def _clear_batch(engine: Engine, storage: Storage, job_id: UUID) -> bool:
    with reading(engine) as session:
        batch = session.scalar(select(Batch).where(Batch.job_id == job_id).limit(1))
    if batch is None:
        return False
    # The file first: a batch that still names it is found again by whoever goes on.
    if batch.shard_key is not None:
        storage.delete(batch.shard_key)
    with writing(engine) as session:
        session.execute(
            delete(Sample).where(
                Sample.job_id == job_id, Sample.index >= batch.start, Sample.index < batch.stop
            )
        )
        session.execute(delete(Batch).where(Batch.id == batch.id))
    return True


def _clear_job(session: Session, job_id: UUID) -> bool:
    """Whether there was something left to clear."""
    session.execute(delete(Redraw).where(Redraw.job_id == job_id))
    parts = delete(JobLabel).where(JobLabel.job_id == job_id).returning(JobLabel.label)
    was_there = bool(session.execute(parts).all())
    if not _referrers(session, job_id):
        session.execute(delete(Job).where(Job.id == job_id))
        return True
    return was_there
