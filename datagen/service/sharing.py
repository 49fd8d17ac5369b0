"""Sharing: what other owners may do with a model, and what they learn of it.

Whoever is about to make images with a model asks here, at that moment: a model that was public when
a job, a report or a pipeline was begun may be private, or removed, when its images are made.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from datagen.db.tables import Model, Owner, Report
from datagen.errors import Conflict, DatagenError, Forbidden
from datagen.service import claims

BUNDLED_OWNER = "datagen"


def withdrawn(model: Model, owner_id: UUID) -> DatagenError | None:
    """Why an owner can make no more images with a model; None where they can."""
    if model.removed_at is not None:
        return Conflict(
            f"{_named(model)} was removed, and makes no more images; use another model."
        )
    if model.owner_id != owner_id and model.visibility != "public":
        return Forbidden(private_again(model))
    return None


def private_again(model: Model) -> str:
    """Why other owners can generate no more images with a model that was public."""
    return (
        f"{_named(model)} is private again, and makes no more images for other owners; use another "
        "model, or ask its owner to share it."
    )


def _named(model: Model) -> str:
    return f"The model {model.name}@{model.version}"


def refuse_withdrawn(model: Model, owner_id: UUID) -> None:
    """Refuse to make images with a model.

    Raises:
        Conflict: it was removed.
        Forbidden: it is another owner's, who does not share it any more.
    """
    if (error := withdrawn(model, owner_id)) is not None:
        raise error


def end_reports_of_others(session: Session, model: Model, moment: datetime) -> None:
    """End the reports of other owners that would make images with a model that is private now."""
    session.execute(
        update(Report)
        .where(
            Report.model_id == model.id,
            Report.owner_id != model.owner_id,
            Report.job_id.is_(None),
            Report.state.in_(claims.OPEN),
        )
        .values(
            state="failed",
            error=private_again(model),
            lease_until=None,
            state_key=None,
            ended_at=moment,
        )
    )


def names_dataset(session: Session, model: Model, owner_id: UUID) -> bool:
    """Whether an owner may see what a model was trained on: their own data, or what ships."""
    if model.owner_id == owner_id:
        return True
    return session.get_one(Owner, model.owner_id).name == BUNDLED_OWNER
