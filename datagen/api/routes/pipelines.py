"""Pipelines: recipes that are run by a schedule, by hand, or when a dataset changes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from datagen.api.auth import Reader, Writer
from datagen.api.backends import Wired
from datagen.api.openapi import problems
from datagen.api.paging import Paged
from datagen.api.recipe_bodies import YAML_BODY, RecipeRoute
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.schemas import (
    DryRun,
    DueTimes,
    Page,
    Pipeline,
    PipelineApply,
    Run,
    State,
    Validated,
    pipeline_schema,
)
from datagen.service import pipelines, runs

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"], route_class=RecipeRoute)
schema_router = APIRouter(prefix="/schemas", tags=["pipelines"])


@router.post(
    "",
    status_code=201,
    summary="Apply a pipeline",
    responses={
        **problems(404),
        200: {"model": Pipeline, "description": "There was one of this name; this is it now."},
    },
    openapi_extra=YAML_BODY,
)
def apply_pipeline(
    wanted: PipelineApply, answer: Response, backends: Wired, asker: Writer
) -> Pipeline:
    """Keep a recipe under its name, as JSON or YAML; another recipe is the name's next version.

    Runs that go on keep the recipe that they began with.
    """
    with writing(backends.engine) as session:
        pipeline, made = pipelines.apply(session, backends.settings, asker.owner_id, wanted)
    if not made:
        answer.status_code = 200
    answer.headers["Location"] = f"{router.prefix}/{pipeline.id}"
    return pipeline


@router.post(
    "/validate",
    summary="Check a recipe",
    responses=problems(404),
    openapi_extra=YAML_BODY,
)
def validate_pipeline(wanted: PipelineApply, backends: Wired, asker: Reader) -> Validated:
    """What applying it would say, the next five due times, and what is missing; writes nothing."""
    with reading(backends.engine) as session:
        return pipelines.validate(session, backends.settings, asker.owner_id, wanted)


@router.get("", summary="List pipelines", responses=problems())
def list_pipelines(
    backends: Wired, paging: Paged, asker: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Page[Pipeline]:
    """Your pipelines, newest first, in pages."""
    with reading(backends.engine) as session:
        page = pipelines.list_pipelines(session, asker.owner_id, limit=limit, cursor=cursor)
    return paging(page)


@router.get("/{reference}", summary="Read a pipeline", responses=problems(404))
def read_pipeline(reference: str, backends: Wired, asker: Reader) -> Pipeline:
    """A pipeline by name or id, with its recipe, its next due time and how its last run ended."""
    with reading(backends.engine) as session:
        return pipelines.read(session, asker.owner_id, reference)


@router.delete(
    "/{reference}", status_code=204, summary="Remove a pipeline", responses=problems(404, 409)
)
def remove_pipeline(reference: str, backends: Wired, asker: Writer) -> None:
    """Remove a pipeline with its history; jobs, models, reports and exports of it stay."""
    with writing(backends.engine) as session:
        pipelines.remove(session, asker.owner_id, reference)


@router.post("/{reference}/pause", summary="Pause a pipeline", responses=problems(404))
def pause_pipeline(reference: str, backends: Wired, asker: Writer) -> Pipeline:
    """No due time comes any more; a run that goes on goes on, and it can be run by hand."""
    with writing(backends.engine) as session:
        return pipelines.pause(session, asker.owner_id, reference, paused=True)


@router.post("/{reference}/resume", summary="Resume a pipeline", responses=problems(404))
def resume_pipeline(reference: str, backends: Wired, asker: Writer) -> Pipeline:
    """Due times come again; those that came meanwhile are not caught up."""
    with writing(backends.engine) as session:
        return pipelines.pause(session, asker.owner_id, reference, paused=False)


@router.get("/{reference}/next", summary="See the next due times", responses=problems(404))
def next_due_times(reference: str, backends: Wired, asker: Reader) -> DueTimes:
    """The next five due times."""
    with reading(backends.engine) as session:
        return runs.due_times(session, asker.owner_id, reference)


@router.post("/{reference}/dry-run", summary="Try a run dry", responses=problems(404))
def dry_run_pipeline(reference: str, backends: Wired, asker: Reader) -> DryRun:
    """Images of each class before and after a run, by the dataset as it is; makes nothing."""
    with reading(backends.engine) as session:
        return runs.dry_run(session, backends.settings, asker.owner_id, reference)


@router.post(
    "/{reference}/runs",
    status_code=202,
    summary="Run a pipeline now",
    responses=problems(404, 409),
)
def run_pipeline(reference: str, answer: Response, backends: Wired, asker: Writer) -> Run:
    """Begin a run by hand, paused or not; it ends succeeded, failed with a reason, or cancelled."""
    with writing(backends.engine) as session:
        run, messages = runs.start(session, asker.owner_id, reference)
    backends.send(messages)
    answer.headers["Location"] = f"/v1/runs/{run.id}"
    return run


@router.get("/{reference}/runs", summary="List a pipeline's runs", responses=problems(404))
def list_runs(
    reference: str,
    backends: Wired,
    paging: Paged,
    asker: Reader,
    *,
    state: Annotated[State | None, Query(description="Only runs in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Run]:
    """Its history, newest first, in pages."""
    with reading(backends.engine) as session:
        page = runs.history(
            session, asker.owner_id, reference, state=state, limit=limit, cursor=cursor
        )
    return paging(page)


@schema_router.get(
    "/pipeline.json",
    summary="Read the schema of recipes",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
def read_pipeline_schema() -> dict[str, Any]:
    """The JSON Schema of recipe files, for editors, which have no key."""
    return pipeline_schema()
