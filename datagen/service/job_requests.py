"""The requests that created and extended a job, in a form that creates the same job again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.tables import Job, JobLabel, Model
from datagen.errors import NotFound
from datagen.schemas import JobCreate, JobExtend
from datagen.service import batch_work
from datagen.service.common import find_model, owned


def read(session: Session, owner_id: UUID, job_id: UUID) -> tuple[JobCreate, list[JobExtend]]:
    """The request that creates a job of the owner's again, and those that extend it as it was.

    What the first request left to the model or to chance is filled in as it was decided, so that
    the same images come out whatever has changed since. Raises NotFound.
    """
    job = owned(session, Job, owner_id, job_id)
    model = session.get_one(Model, job.model_id)
    parts = session.scalars(
        select(JobLabel).where(JobLabel.job_id == job_id).order_by(JobLabel.position)
    ).all()
    first, *others = _ways(parts, model.class_names)
    told = {
        "model": _reference(session, owner_id, model),
        **first,
        "seed": job.seed,
        "sampler": job.sampler,
        "temperature": job.temperature,
        "truncation": job.truncation,
        "strength": job.strength,
        "exports": job.follow_exports,
        "priority": job.priority,
        "metadata": job.noted,
        "retention_days": job.retention_days,
        "webhook": job.webhook_id,
    }
    said: dict[str, Any] = {name: one for name, one in told.items() if one not in (None, {}, [])}
    # Null says something here: that every image is taken.
    said["gate"] = job.gate
    return JobCreate.model_validate(said), [JobExtend.model_validate(one) for one in others]


def _ways(parts: Sequence[JobLabel], names: Sequence[str]) -> list[dict[str, Any]]:
    """Counts by label, a request for each stretch that one request can say.

    A request makes its labels in the order of the model's classes, so a label that comes before the
    last one, or again, was asked for by an extension.
    """
    ways: list[dict[str, int]] = []
    last = -1
    for part in parts:
        if part.label == batch_work.UNLABELLED:
            return [{"count": part.requested}]
        if not ways or part.label <= last:
            ways.append({})
        ways[-1][names[part.label]] = part.requested
        last = part.label
    return [{"labels": counts} for counts in ways]


def _reference(session: Session, owner_id: UUID, model: Model) -> str:
    """What names this model and no other one of the same name."""
    name = f"{model.name}@{model.version}"
    try:
        found = find_model(session, owner_id, name).id
    except NotFound:
        found = None
    return name if found == model.id else str(model.id)
