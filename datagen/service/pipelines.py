"""Pipelines: recipes kept, checked, changed, paused and removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

from cronsim import CronSimError
from pydantic import ValidationError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Pipeline, Run, new_id
from datagen.errors import Conflict, InvalidRequest, NotFound, UnknownLabel
from datagen.export.formats import known_format
from datagen.schemas import ENDED, Page, PipelineApply, Schedule, Validated
from datagen.schemas.base import first_problem
from datagen.service import due_times, run_plans, webhooks
from datagen.service.common import (
    find_dataset,
    find_model,
    lock_owner,
    page_of,
    parse_id,
)
from datagen.service.destinations import check_destination, destinations
from datagen.service.pipeline_circles import refuse_circle
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings

SHOWN_TIMES = 5


def apply(
    session: Session, settings: Settings, owner_id: UUID, wanted: PipelineApply
) -> tuple[schemas.Pipeline, bool]:
    """Keep a recipe under its name; returns it, and whether the name is new.

    The same recipe again changes nothing; another one is the next version, and runs that go on keep
    theirs.

    Raises:
        InvalidRequest: a schedule, format or destination that cannot be.
        UnknownLabel: a plan that names a label which nothing could be made of.
        NotFound: no such webhook.
    """
    moment = now(session)
    _check(session, settings, owner_id, wanted, moment)
    # Two that come at once under a new name wait for each other.
    lock_owner(session, owner_id)
    recipe = wanted.model_dump(mode="json", exclude_unset=True)
    row = session.scalar(
        select(Pipeline)
        .where(Pipeline.owner_id == owner_id, Pipeline.name == wanted.name)
        .with_for_update()
    )
    made = row is None
    if row is None:
        row = Pipeline(
            id=new_id(), owner_id=owner_id, name=wanted.name, version=0, recipe={}, paused=False,
            created_at=moment,
        )  # fmt: skip
        session.add(row)
    if row.recipe != recipe:
        schedule = wanted.schedule
        row.recipe, row.version, row.updated_at = recipe, row.version + 1, moment
        # A recipe that says nothing of it leaves alone what `pause` has set.
        if made or "paused" in wanted.model_fields_set:
            row.paused = wanted.paused
        row.watched = wanted.source.dataset if schedule and schedule.on_dataset else None
        row.next_due_at = next_due(schedule, moment, row.id)
    elif row.next_due_at is None and wanted.schedule is not None:
        # Such as a schedule in a zone that this machine did not know for a while.
        row.next_due_at = next_due(wanted.schedule, moment, row.id)
    session.flush()
    return to_schemas(session, [row])[0], made


def validate(
    session: Session, settings: Settings, owner_id: UUID, wanted: PipelineApply
) -> Validated:
    """What `apply` would say, and what a run would stumble over by now; nothing is written."""
    moment = now(session)
    _check(session, settings, owner_id, wanted, moment)
    known = session.scalar(
        select(Pipeline.id).where(Pipeline.owner_id == owner_id, Pipeline.name == wanted.name)
    )
    # Its moments within the jitter are drawn from its id.
    times = [] if wanted.schedule is None else upcoming(wanted.schedule, moment, known or new_id())
    return Validated(name=wanted.name, next=times, warnings=missing(session, owner_id, wanted))


def upcoming(schedule: Schedule, moment: datetime, pipeline_id: UUID) -> list[datetime]:
    """The next due times, at most five."""
    return list(islice(due_times.due_times(schedule, moment, pipeline_id), SHOWN_TIMES))


def next_due(schedule: Schedule | None, moment: datetime, pipeline_id: UUID) -> datetime | None:
    """The first due time after a moment; None where none comes."""
    if schedule is None:
        return None
    try:
        return next(due_times.due_times(schedule, moment, pipeline_id), None)
    except (CronSimError, InvalidRequest):
        # Another version let it pass, or its zone is no more; `why_never_due` says so.
        return None


def recipe_of(row: Pipeline | Run) -> PipelineApply:
    """A recipe as it was applied.

    Raises:
        Conflict: another version wrote it, and this one would refuse it.
    """
    try:
        return PipelineApply.model_validate(row.recipe)
    except ValidationError as error:
        where, why = first_problem(error)
        raise Conflict(
            "The pipeline's recipe was written by another version, and this one cannot read it "
            f"({where or 'recipe'}: {why}); apply it again."
        ) from None


def why_never_due(row: Pipeline) -> str | None:
    """Why a pipeline with a schedule has no next due time; None where it has one, or needs none."""
    if row.next_due_at is not None:
        return None
    try:
        schedule = recipe_of(row).schedule
    except Conflict as error:
        return error.detail
    if schedule is None or schedule.on_dataset:
        return None
    try:
        due_times.zone_of(schedule)
    except InvalidRequest as error:
        return error.detail
    if schedule.end is not None:
        return f"No due time comes up to the schedule's end, {schedule.end.isoformat()}."
    return "No next due time can be computed from the schedule; change its cron, every or start."


def read(session: Session, owner_id: UUID, reference: str) -> schemas.Pipeline:
    """A pipeline by name or id. Raises NotFound."""
    return to_schemas(session, [find_pipeline(session, owner_id, reference)])[0]


def find_pipeline(
    session: Session, owner_id: UUID, reference: str, *, locked: bool = False
) -> Pipeline:
    """The row of a pipeline by name or id. Raises NotFound."""
    row_id = parse_id(reference)
    named = Pipeline.name == reference if row_id is None else Pipeline.id == row_id
    query = select(Pipeline).where(Pipeline.owner_id == owner_id, named)
    row = None
    if "\0" not in reference:
        row = session.scalar(query.with_for_update() if locked else query)
    if row is None:
        raise NotFound(
            f"There is no pipeline {reference[:80]!r}; `datagen pipeline list` shows them."
        )
    return row


def list_pipelines(
    session: Session, owner_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Page[schemas.Pipeline]:
    """The owner's pipelines, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(Pipeline).where(Pipeline.owner_id == owner_id)
    rows, following = page_of(session, query, Pipeline, limit, cursor)
    return Page(
        items=skip_unreadable(rows, lambda some: to_schemas(session, some)), next_cursor=following
    )


def pause(session: Session, owner_id: UUID, reference: str, *, paused: bool) -> schemas.Pipeline:
    """Let no due time come any more, or let them come again; runs that go on go on.

    Due times that came meanwhile are not caught up.

    Raises:
        NotFound: no such pipeline of the owner's.
    """
    row = find_pipeline(session, owner_id, reference, locked=True)
    if row.paused and not paused:
        row.next_due_at = next_due(recipe_of(row).schedule, now(session), row.id)
    row.paused = paused
    session.flush()
    return to_schemas(session, [row])[0]


def remove(session: Session, owner_id: UUID, reference: str) -> None:
    """Remove a pipeline with its history; jobs, models, reports and exports of it stay.

    Raises:
        NotFound: no such pipeline of the owner's.
        Conflict: a run of it goes on.
    """
    row = find_pipeline(session, owner_id, reference, locked=True)
    going = session.scalar(
        select(Run.id).where(Run.pipeline_id == row.id, Run.state.not_in(sorted(ENDED))).limit(1)
    )
    if going is not None:
        raise Conflict(f"Run {going} of the pipeline {row.name!r} goes on; cancel it first.")
    session.execute(delete(Run).where(Run.pipeline_id == row.id))
    session.delete(row)
    session.flush()


def note_new_version(session: Session, owner_id: UUID, dataset: str) -> None:
    """Make pipelines due that watch a dataset, in the transaction that writes its new version."""
    session.execute(
        update(Pipeline)
        .where(
            Pipeline.owner_id == owner_id,
            Pipeline.watched == dataset,
            Pipeline.paused.is_(False),
        )
        .values(next_due_at=now(session))
    )


def to_schemas(session: Session, rows: Sequence[Pipeline]) -> list[schemas.Pipeline]:
    """The wire form of pipelines, each with its latest run."""
    latest = (
        select(Run.id)
        .where(Run.pipeline_id == Pipeline.id)
        .order_by(Run.id.desc())
        .limit(1)
        .correlate(Pipeline)
        .scalar_subquery()
    )
    runs = {
        run.pipeline_id: run
        for run in session.execute(
            select(Run.id, Run.pipeline_id, Run.state)
            .join(Pipeline, Pipeline.id == Run.pipeline_id)
            .where(Pipeline.id.in_([row.id for row in rows]), Run.id == latest)
        )
    }
    plain: tuple[str, ...] = (
        "id",
        "name",
        "version",
        "recipe",
        "paused",
        "next_due_at",
        "created_at",
        "updated_at",
    )
    told = []
    for row in rows:
        run = runs.get(row.id)
        last = {"last_run": run.id, "last_state": run.state} if run else {}
        note = {"next_due_note": why_never_due(row)}
        told.append(
            schemas.Pipeline.model_validate(
                {name: getattr(row, name) for name in plain} | last | note
            )
        )
    return told


def _check(
    session: Session, settings: Settings, owner_id: UUID, wanted: PipelineApply, moment: datetime
) -> None:
    """Refuse what no run could do."""
    if wanted.schedule is not None:
        due_times.check(wanted.schedule, moment, settings.pipeline_seconds)
        if wanted.schedule.on_dataset and "@" in wanted.source.dataset:
            raise InvalidRequest(
                f"{wanted.source.dataset!r} names a version, which never changes; name the dataset "
                "without one, or give a 'cron'.",
                field="source.dataset",
            )
    urls = destinations(settings)
    for one in wanted.deliver:
        layout = known_format(one.format)
        for split, share in (one.splits or {}).items():
            if share > 0 and split not in layout.splits:
                raise InvalidRequest(
                    f"The format {one.format!r} has no place for the split {split!r}, to which "
                    "'splits' gives images; leave it out, or take the format 'parquet'.",
                    field="deliver.splits",
                )
        if one.destination is None:
            continue
        check_destination(settings, one.destination, None)
    refuse_circle(session, owner_id, wanted, urls)
    if wanted.source.refresh is None and not (wanted.schedule and wanted.schedule.on_dataset):
        # Else the images that a run counts are others than those that are there now.
        run_plans.refuse_named(session, owner_id, wanted)
    if wanted.notify is not None:
        webhooks.check(session, owner_id, wanted.notify.webhook)


def missing(session: Session, owner_id: UUID, wanted: PipelineApply) -> list[str]:
    """What is not there yet; a run that still misses it fails, and says so."""
    told = []
    try:
        find_dataset(session, owner_id, wanted.source.dataset)
    except NotFound as error:
        if wanted.source.refresh is None:
            told.append(error.detail)
    if isinstance(wanted.model, str):
        try:
            find_model(session, owner_id, wanted.model, usable=True)
        except NotFound as error:
            told.append(error.detail)
    try:
        run_plans.refuse_named(session, owner_id, wanted)
    except UnknownLabel as error:
        told.append(error.detail)
    return told
