"""Jobs as the API shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session, load_only

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Batch, ExportJob, Job, JobLabel, Model
from datagen.quality.gate import REASONS
from datagen.schemas import ENDED
from datagen.service import batch_work, counting

PACED_OVER = timedelta(seconds=60)

# Made once: everything that tells of a job asks these.
_PARTS = (
    select(JobLabel)
    .where(JobLabel.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(JobLabel.position)
)
_EXPORTS = (
    select(ExportJob.job_id, ExportJob.export_id)
    .where(ExportJob.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(ExportJob.export_id)
)


def to_schemas(session: Session, jobs: Sequence[Job]) -> list[schemas.Job]:
    """The wire form of jobs, read with three queries however many there are."""
    ids = [job.id for job in jobs]
    models = _models(session, {job.model_id for job in jobs})
    parts: dict[UUID, list[JobLabel]] = defaultdict(list)
    for part in session.scalars(_PARTS, {"ids": ids}):
        parts[part.job_id].append(part)
    exports: dict[UUID, list[UUID]] = defaultdict(list)
    for job_id, export_id in session.execute(_EXPORTS, {"ids": ids}):
        exports[job_id].append(export_id)
    paces = _paces(session, [job.id for job in jobs if job.state == "running"])
    return [
        _show(job, models[job.model_id], parts[job.id], exports[job.id], paces.get(job.id))
        for job in jobs
    ]


def new_to_schema(job: Job, model: Model, parts: Sequence[JobLabel]) -> schemas.Job:
    """The wire form of a job that was just written; nothing is read."""
    return _show(job, model, parts, [], None)


def _models(session: Session, ids: set[UUID]) -> Mapping[UUID, Model]:
    """Models by id, without what they were measured by; one alone the session may know already."""
    needed = load_only(Model.name, Model.version, Model.digest, Model.class_names)
    if len(ids) == 1:
        return {model_id: session.get_one(Model, model_id, options=[needed]) for model_id in ids}
    query = select(Model).where(Model.id.in_(ids)).options(needed)
    return {model.id: model for model in session.scalars(query)}


def _paces(session: Session, running: Sequence[UUID]) -> Mapping[UUID, float]:
    """Images a second of jobs over the last minute, of those that stored some in it."""
    if not running:
        return {}
    moment = now(session)
    rows = session.execute(
        select(Batch.job_id, func.sum(Batch.stop - Batch.start), func.min(Batch.started_at))
        .where(Batch.job_id.in_(running), Batch.ended_at > moment - PACED_OVER)
        .group_by(Batch.job_id)
    ).all()
    return {
        job_id: int(images) / max(1e-3, min(moment - began, PACED_OVER).total_seconds())
        for job_id, images, began in rows
        if began is not None
    }


def _stage(job: Job) -> str | None:
    if job.state in ENDED:
        return None
    if job.state == "queued":
        return "waiting"
    whole = job.images_stored + job.images_short >= job.images_requested
    return "settling" if whole or job.rounds else "generating"


def _merged(parts: Sequence[JobLabel]) -> list[list[JobLabel]]:
    """The parts of each label, in the order of their first ones: an extension repeats labels."""
    found: dict[int, list[JobLabel]] = defaultdict(list)
    for part in parts:
        found[part.label].append(part)
    return list(found.values())


def _show(
    job: Job,
    model: Model,
    parts: Sequence[JobLabel],
    exports: Sequence[UUID],
    pace: float | None,
) -> schemas.Job:
    left = job.images_requested - job.images_stored - job.images_short
    days = job.retention_days
    judged = any(part.label == batch_work.UNLABELLED for part in parts)
    return schemas.Job.model_validate(
        {
            **{name: getattr(job, name) for name in _PLAIN},
            "model": schemas.ModelRef.model_validate(model),
            "labelled_by": "judge" if judged else "request",
            "labels": [
                _progress(alike, model.class_names, judged=judged)
                for alike in _merged(parts)
                if alike[0].label != batch_work.UNLABELLED
            ],
            "stage": _stage(job),
            "images_per_second": None if pace is None else round(pace, 1),
            "seconds_left": None if pace is None else round(left / pace, 1),
            "metadata": job.noted or {},
            "notes": job.notes or [],
            "webhook": job.webhook_id,
            "expires_at": job.ended_at + timedelta(days=days) if days and job.ended_at else None,
            "seconds": {
                stage: round(getattr(job, f"seconds_{stage}"), 4)
                for stage in schemas.StageSeconds.model_fields
            },
            "exports": list(exports),
        }
    )


_PLAIN = (
    "id",
    "state",
    "seed",
    "sampler",
    "temperature",
    "truncation",
    "strength",
    "gate",
    "images_requested",
    "images_stored",
    "images_short",
    "priority",
    "retention_days",
    "error",
    "created_at",
    "started_at",
    "ended_at",
)


def _progress(
    parts: Sequence[JobLabel], names: Sequence[str], *, judged: bool
) -> schemas.LabelProgress:
    stored = sum(part.stored for part in parts)
    score = sum(part.score_sum for part in parts) / counting.SCORE_UNITS
    agreed = sum(part.agreed for part in parts)
    return schemas.LabelProgress(
        label=names[parts[0].label],
        requested=None if judged else sum(part.requested for part in parts),
        stored=stored,
        mean_score=score / stored if stored else None,
        agreement=agreed / stored if stored and not judged else None,
        rejected={
            reason: sum(getattr(part, f"rejected_{reason}") for part in parts) for reason in REASONS
        },
        short=sum(part.short for part in parts),
    )
