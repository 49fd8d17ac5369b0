"""Measures of the whole service, read from the database when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.base import STATES
from datagen.db.tables import Batch, Export, Job, JobLabel, Model, Report
from datagen.quality.gate import REASONS


@dataclass(frozen=True)
class Measure:
    """A figure with its labels. Jobs can be removed, so any of them may fall."""

    name: str
    help: str
    labels: tuple[str, ...]
    values: Sequence[tuple[tuple[str, ...], float]]


def measures(session: Session) -> Iterator[Measure]:
    """All of them, each read by one query."""
    for kind, name in ((Job, "jobs"), (Batch, "batches"), (Export, "exports"), (Report, "reports")):
        query = select(kind.state, func.count()).group_by(kind.state)
        if kind is Job:
            query = query.where(Job.removed_at.is_(None))
        found = {str(state): int(count) for state, count in session.execute(query).all()}
        counts = dict.fromkeys(STATES, 0) | found
        values = [((state,), float(count)) for state, count in counts.items()]
        yield Measure(name, f"{name.title()} by state.", ("state",), values)
    stored = session.execute(
        select(Model.name, Model.version, func.sum(Job.images_stored), func.sum(Job.images_short))
        .join(Job, Job.model_id == Model.id)
        .group_by(Model.name, Model.version)
    ).all()
    by_model = ("model", "version")
    yield Measure(
        "images_stored",
        "Images that jobs have stored, by model.",
        by_model,
        [((name, str(version)), float(count)) for name, version, count, _ in stored],
    )
    yield Measure(
        "images_short",
        "Images that no candidate passed the gate for, by model.",
        by_model,
        [((name, str(version)), float(count)) for name, version, _, count in stored],
    )
    yield _seconds(session)
    rejected = session.execute(
        select(*(func.sum(getattr(JobLabel, f"rejected_{reason}")) for reason in REASONS))
    ).one()
    yield Measure(
        "gate_rejections",
        "Candidates that gates refused, by reason.",
        ("reason",),
        [((reason,), float(count or 0)) for reason, count in zip(REASONS, rejected, strict=True)],
    )


def _seconds(session: Session) -> Measure:
    stages = tuple(schemas.StageSeconds.model_fields)
    spent = session.execute(
        select(*(func.sum(getattr(Job, f"seconds_{stage}")) for stage in stages))
    ).one()
    return Measure(
        "batch_seconds",
        "Worker seconds spent on batches, by stage.",
        ("stage",),
        [((stage,), float(value or 0.0)) for stage, value in zip(stages, spent, strict=True)],
    )
