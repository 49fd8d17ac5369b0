"""Runs of pipelines: begun by hand, tried dry, read, cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Export, Job, Model, Pipeline, Report, Run
from datagen.errors import Conflict, DatagenError, NotFound
from datagen.queue import ADVANCE_RUN, Message
from datagen.schemas import ENDED, ClassChange, DryRun, DueTimes, Page
from datagen.service import pipelines, quotas, run_plans, run_records, running
from datagen.service.common import find_dataset, owned, page_of
from datagen.service.pipeline_ticks import new_run
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings


def start(session: Session, owner_id: UUID, reference: str) -> tuple[schemas.Run, list[Message]]:
    """Run a pipeline now, paused or not; its due times stay as they are.

    Raises:
        NotFound: no such pipeline of the owner's.
        Conflict: a run of it goes on, and the recipe does not say what then.
        UnknownLabel: a plan that names a label which nothing could be made of.
    """
    row = pipelines.find_pipeline(session, owner_id, reference, locked=True)
    recipe = pipelines.recipe_of(row)
    if recipe.source.refresh is None:
        run_plans.refuse_named(session, owner_id, recipe)
    going = session.scalars(
        select(Run.id)
        .where(Run.pipeline_id == row.id, Run.state.not_in(sorted(ENDED)))
        .order_by(Run.id)
    ).all()
    if going and (recipe.on_overlap == "skip" or len(going) > running.MOST_WAITING):
        more = f" and {len(going) - 1} more wait" if len(going) > 1 else ""
        raise Conflict(
            f"Run {going[0]} of the pipeline {row.name!r} goes on{more}; wait for its end, cancel "
            "it, or set 'on_overlap' to 'queue' or 'cancel_previous'."
        )
    moment = now(session)
    run = Run(**new_run(row, "hand", moment, moment) | {"sent_at": moment})
    session.add(run)
    session.flush()
    return to_schemas(session, [run])[0], [Message(ADVANCE_RUN, {"run_id": str(run.id)})]


def dry_run(session: Session, settings: Settings, owner_id: UUID, reference: str) -> DryRun:
    """What a run would make, by the dataset that is there now; nothing is written.

    Raises:
        NotFound: no such pipeline of the owner's, or no dataset to count.
        UnknownLabel, InvalidRequest: a plan that the run would fail at.
    """
    row = pipelines.find_pipeline(session, owner_id, reference)
    recipe = pipelines.recipe_of(row)
    dataset = find_dataset(session, owner_id, recipe.source.dataset)
    warnings = pipelines.missing(session, owner_id, recipe)
    model = None
    with suppress(NotFound):
        # Where there is none, the warnings say so.
        model = run_plans.model_there(session, owner_id, recipe, dataset)
    found = run_plans.counted(recipe.plan, dataset, run_plans.learnt_by(session, dataset, model))
    warnings += found.notes
    if recipe.source.refresh is not None:
        warnings.append(
            f"A run reads {recipe.source.refresh.source} first, and counts what is there then."
        )
    if found.total:
        try:
            quotas.refuse_job(session, settings, owner_id, found.total)
        except DatagenError as error:
            warnings.append(error.detail)
    return DryRun(
        dataset=f"{dataset.name}@{dataset.version}",
        classes=[
            ClassChange(label=name, before=count, after=count + found.wanted.get(name, 0))
            for name, count in found.before.items()
        ],
        images=found.total,
        warnings=warnings,
    )


def due_times(session: Session, owner_id: UUID, reference: str) -> DueTimes:
    """When a pipeline runs next, at most five times. Raises NotFound."""
    row = pipelines.find_pipeline(session, owner_id, reference)
    if pipelines.why_never_due(row) is not None:
        return DueTimes(times=[], timezone="UTC", paused=row.paused)
    schedule = pipelines.recipe_of(row).schedule
    times = [] if schedule is None else pipelines.upcoming(schedule, now(session), row.id)
    zone = "UTC" if schedule is None else schedule.timezone
    return DueTimes(times=times, timezone=zone, paused=row.paused)


def read(session: Session, owner_id: UUID, run_id: UUID) -> schemas.Run:
    """A run of the owner's. Raises NotFound."""
    return to_schemas(session, [owned(session, Run, owner_id, run_id)])[0]


def history(
    session: Session,
    owner_id: UUID,
    reference: str,
    *,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[schemas.Run]:
    """The runs of a pipeline, newest first.

    Raises:
        NotFound: no such pipeline of the owner's.
        InvalidRequest: a bad cursor.
    """
    row = pipelines.find_pipeline(session, owner_id, reference)
    query = select(Run).where(Run.pipeline_id == row.id)
    if state is not None:
        query = query.where(Run.state == state)
    rows, following = page_of(session, query, Run, limit, cursor)
    return Page(
        items=skip_unreadable(rows, lambda some: to_schemas(session, some)), next_cursor=following
    )


def cancel(
    session: Session, settings: Settings, owner_id: UUID, run_id: UUID
) -> tuple[schemas.Run, list[Message]]:
    """End a run now, and the step that it is at; what it has made by then stays.

    Raises:
        NotFound: no such run of the owner's.
        Conflict: it has ended already.
    """
    row = owned(session, Run, owner_id, run_id)
    session.refresh(row, with_for_update=True)
    if row.state in ENDED:
        raise Conflict(f"Run {run_id} is {row.state} already; there is nothing to cancel.")
    at = running.place_of(session, settings, row, now(session))
    messages = [] if at is None else running.cancel(at, "Cancelled by its owner.")
    return to_schemas(session, [row])[0], messages


def to_schemas(session: Session, rows: Sequence[Run]) -> list[schemas.Run]:
    """The wire form of runs."""
    names = {
        row.id: row.name
        for row in session.execute(
            select(Pipeline.id, Pipeline.name).where(
                Pipeline.id.in_({run.pipeline_id for run in rows})
            )
        )
    }
    return [_to_schema(session, run, names[run.pipeline_id]) for run in rows]


def _to_schema(session: Session, run: Run, name: str) -> schemas.Run:
    current = run_records.current(run)
    steps = [dict(step) for step in run.steps]
    if run.state == "running" and current is not None:
        steps[run.steps.index(current)]["done"] = _share(session, run)
    return schemas.Run.model_validate(
        {field: getattr(run, field) for field in _PLAIN}
        | {
            "pipeline": run.pipeline_id,
            "name": name,
            "steps": steps,
            "dataset": run.dataset_id,
            "model": run.model_id,
            "job": run.job_id,
            "report": run.report_id,
        }
    )


def _share(session: Session, run: Run) -> float | None:
    """How much of what a run waits for is done, from 0 to 1."""
    done, whole = 0, 0
    if run.waits_for == "job" and (job := session.get(Job, run.waits_id)) is not None:
        done, whole = job.images_stored + job.images_short, job.images_requested
    elif run.waits_for == "model" and (model := session.get(Model, run.waits_id)) is not None:
        done, whole = model.progress.get("step", 0), model.progress.get("steps", 0)
    elif run.waits_for == "report" and (report := session.get(Report, run.waits_id)) is not None:
        done, whole = report.progress.get("done", 0), report.progress.get("steps", 0)
    elif run.waits_for == "export":
        made = [session.get(Export, UUID(one)) for one in run.exports]
        done = sum(one.images_written for one in made if one is not None)
        whole = sum(one.images_total for one in made if one is not None)
    return min(1.0, done / whole) if whole else None


_PLAIN = (
    "id", "version", "cause", "due_at", "state", "retry", "seed", "exports", "images", "sentence",
    "error", "created_at", "started_at", "ended_at",
)  # fmt: skip
