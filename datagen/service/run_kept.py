"""What pipelines keep: where a run's exports go in a destination, and which ones are given up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.tables import Export, Run
from datagen.schemas import Deliver, PipelineApply


def location_of(one: Deliver, pipeline: str, run: Run) -> str:
    """The path below a destination that a template comes to."""
    return one.name.format(
        pipeline=pipeline,
        date=f"{run.due_at:%Y-%m-%d}",
        time=f"{run.due_at:%H%M%S}",
        run=run.id,
        format=one.format,
    )


def is_own(session: Session, run: Run, location: str) -> bool:
    """Whether a run of the same pipeline has delivered there, so that it may be replaced."""
    found = session.scalar(
        select(Export.id)
        .join(Run, Run.job_id == Export.job_id)
        .where(
            Run.pipeline_id == run.pipeline_id,
            Export.owner_id == run.owner_id,
            Export.location == location,
            Export.state == "succeeded",
        )
        .limit(1)
    )
    return found is not None


def superseded(session: Session, run: Run, recipe: PipelineApply) -> Iterator[Export]:
    """Exports of earlier runs beyond the number that the recipe keeps, of each that it delivers."""
    kept = [one for one in recipe.deliver if one.keep is not None]
    if not kept:
        return
    made = session.scalars(
        select(Export)
        .join(Run, Run.job_id == Export.job_id)
        .where(Run.pipeline_id == run.pipeline_id, Export.state == "succeeded")
        .order_by(Export.id.desc())
    ).all()
    for one in kept:
        alike = [export for export in made if _kind(export) == _wanted(one)]
        yield from alike[one.keep :]


def _wanted(one: Deliver) -> dict[str, Any]:
    told = one.model_dump(mode="json", include={*_ALIKE})
    return told | {"merge": one.merge}


def _kind(export: Export) -> dict[str, Any]:
    """What an export was asked for, as a recipe says it."""
    request = export.request or {}
    # Exports of earlier versions have their classes in the order of the dataset, and do not say so.
    told = {name: request.get(name) for name in _ALIKE}
    told["class_order"] = request.get("class_order", "dataset")
    return told | {"merge": request.get("dataset") is not None}


_ALIKE = ("format", "splits", "split_seed", "class_order", "license", "destination")
