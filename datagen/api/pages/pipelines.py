"""Pipelines: the list, the editor, one with its history, and a run."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from datagen.api.backends import Backends, Wired
from datagen.api.errors import invalid_body
from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Viewer
from datagen.api.sites import refuse_other_sites
from datagen.api.uploads import receive_json
from datagen.db.session import reading
from datagen.errors import DatagenError
from datagen.export.formats import formats
from datagen.recipes import MAX_BYTES, in_digits, read_recipe, written
from datagen.schemas import Dataset, DueTimes, Model, Page, Pipeline, PipelineApply, Run, Validated
from datagen.service import datasets, models, pipelines, runs
from datagen.service.keys import Principal

router = APIRouter()
ON_A_PAGE, CHOICES = 50, 200


@router.get("/pipelines")
async def list_pipelines(
    request: Request,
    viewer: Viewer,
    backends: Wired,
    *,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """The list, newest first."""

    def read() -> Page[Pipeline]:
        with reading(backends.engine) as session:
            return pipelines.list_pipelines(
                session, viewer.owner_id, limit=ON_A_PAGE, cursor=cursor
            )

    return render(request, "pipelines.html", viewer, page=await run_sync(read))


@router.get("/pipelines/new")
async def new_pipeline(
    request: Request,
    viewer: Viewer,
    backends: Wired,
    *,
    edit: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The editor, empty or with the recipe of a pipeline."""

    def read() -> tuple[dict[str, Any], list[Dataset], list[Model]]:
        with reading(backends.engine) as session:
            own = list(datasets.list_datasets(session, viewer.owner_id, limit=CHOICES).items)
            usable = list(models.list_models(session, viewer.owner_id, limit=CHOICES).items)
            if edit is not None:
                return pipelines.read(session, viewer.owner_id, edit).recipe, own, usable
            return _first(own, usable), own, usable

    recipe, own, usable = await run_sync(read)
    return render(
        request, "pipeline-edit.html", viewer, yaml=written(recipe), edit=edit, datasets=own,
        models=usable, formats=list(formats().values()),
    )  # fmt: skip


def _first(own: list[Dataset], usable: list[Model]) -> dict[str, Any]:
    """A recipe to begin with."""
    return {
        "name": "nightly",
        "source": {"dataset": own[0].name if own else "defects"},
        "model": next((one.name for one in usable if one.state == "succeeded"), "mnist"),
        "plan": {"balance": True},
        "deliver": [{"format": "parquet", "merge": True}],
        "schedule": {"cron": "0 2 * * *", "timezone": "UTC"},
    }


@router.post("/pipelines/check")
async def check_recipe(request: Request, viewer: Viewer, backends: Wired) -> dict[str, Any]:
    """A recipe as it is typed, as YAML or JSON: both forms of it, and what is wrong with it."""
    refuse_other_sites(request)
    body = await receive_json(request, MAX_BYTES)
    return await run_sync(_checked, backends, viewer, body)


def _checked(backends: Backends, viewer: Principal, body: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"recipe": None, "yaml": None, "problem": None, "field": None}
    try:
        recipe = read_recipe(body)
        # The page's script changes it and sends it back, and would round what it reads as numbers.
        told |= {"recipe": in_digits(recipe), "yaml": written(recipe)}
        wanted = PipelineApply.model_validate(recipe)
        with reading(backends.engine) as session:
            found = pipelines.validate(session, backends.settings, viewer.owner_id, wanted)
        return told | _validation(found, wanted)
    except ValidationError as error:
        problem = invalid_body(error)
    except DatagenError as error:
        problem = error
    return told | {"problem": problem.detail, "field": problem.field}


def _validation(found: Validated, wanted: PipelineApply) -> dict[str, Any]:
    zone = "UTC" if wanted.schedule is None else wanted.schedule.timezone
    return {
        "next": [moment.isoformat() for moment in found.next],
        "timezone": zone,
        "warnings": found.warnings,
    }


@router.get("/pipelines/{reference}")
async def show_pipeline(
    reference: str,
    request: Request,
    viewer: Viewer,
    backends: Wired,
    *,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """A pipeline and its runs."""

    def read() -> tuple[Pipeline, Page[Run], DueTimes]:
        with reading(backends.engine) as session:
            owner_id = viewer.owner_id
            return (
                pipelines.read(session, owner_id, reference),
                runs.history(session, owner_id, reference, limit=20, cursor=cursor),
                runs.due_times(session, owner_id, reference),
            )

    pipeline, history, due = await run_sync(read)
    return render(
        request, "pipeline.html", viewer, pipeline=pipeline, history=history, due=due,
        yaml=written(pipeline.recipe),
    )  # fmt: skip


@router.get("/runs/{run_id}")
async def show_run(run_id: UUID, request: Request, viewer: Viewer, backends: Wired) -> Response:
    """A run, step by step."""

    def read() -> Run:
        with reading(backends.engine) as session:
            return runs.read(session, viewer.owner_id, run_id)

    return render(request, "run.html", viewer, run=await run_sync(read))
