"""Jobs: the list, a new one, and one with its gallery, report and exports."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from datagen.api.backends import Backends, Wired
from datagen.api.pages.rendering import render
from datagen.api.pages.snippets import snippets
from datagen.api.pages.viewers import Viewer
from datagen.db.session import reading
from datagen.export.formats import formats
from datagen.schemas import (
    Dataset,
    Export,
    Job,
    JobCreate,
    JobExtend,
    Model,
    Page,
    Report,
    State,
)
from datagen.service import (
    datasets,
    exports,
    gallery,
    job_requests,
    jobs,
    learnt,
    models,
    recommending,
    reports,
)
from datagen.service.gallery import Order
from datagen.service.keys import Principal

router = APIRouter()
ON_A_PAGE, CHOICES = 50, 200

Label = Annotated[str | None, Query(max_length=200)]


@router.get("/jobs")
async def list_jobs(
    request: Request,
    viewer: Viewer,
    backends: Wired,
    *,
    state: State | None = None,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """The list, newest first."""

    def read() -> Page[Job]:
        with reading(backends.engine) as session:
            return jobs.list_jobs(
                session, viewer.owner_id, state=state, limit=ON_A_PAGE, cursor=cursor
            )

    return render(request, "jobs.html", viewer, page=await run_sync(read), state=state)


@router.get("/jobs/new")
async def new_job(
    request: Request, viewer: Viewer, backends: Wired, *, model: Label = None
) -> Response:
    """The form; what is in it beyond the model, a script reads from the address."""
    found = await run_sync(_choices, backends, viewer)
    usable = [one for one in found[0] if one.state == "succeeded"]
    chosen = next((one for one in usable if model in {one.name, str(one.id)}), None)
    chosen = chosen or (usable[0] if usable else None)
    labels, notes, defaults = (
        await run_sync(_choice, backends, viewer, chosen) if chosen else ([], [], None)
    )
    return render(
        request, "job-new.html", viewer, models=usable, chosen=chosen, datasets=found[1],
        labels=labels, notes=notes, defaults=defaults,
    )  # fmt: skip


def _choice(
    backends: Backends, viewer: Principal, chosen: Model
) -> tuple[list[str], list[str], recommending.Defaults]:
    """The labels that a model has learnt, a sentence about the others, and its defaults."""
    with reading(backends.engine) as session:
        return (
            *learnt.labels_of(session, chosen.id),
            recommending.defaults_of(session, viewer.owner_id, chosen.id),
        )


def _choices(backends: Backends, viewer: Principal) -> tuple[list[Model], list[Dataset]]:
    with reading(backends.engine) as session:
        return (
            list(models.list_models(session, viewer.owner_id, limit=CHOICES).items),
            list(datasets.list_datasets(session, viewer.owner_id, limit=CHOICES).items),
        )


@router.get("/jobs/{job_id}")
async def show_job(job_id: UUID, request: Request, viewer: Viewer, backends: Wired) -> Response:
    """A job."""

    def read() -> tuple[Job, list[Export], list[Report], tuple[JobCreate, list[JobExtend]]]:
        with reading(backends.engine) as session:
            return (
                jobs.read(session, viewer.owner_id, job_id),
                list(exports.list_exports(session, viewer.owner_id, job_id=job_id).items),
                list(reports.list_reports(session, viewer.owner_id, job_id=job_id).items),
                job_requests.read(session, viewer.owner_id, job_id),
            )

    job, made, measured, (wanted, more) = await run_sync(read)
    base = f"{request.url.scheme}://{request.headers.get('host', '')}"
    return render(
        request, "job.html", viewer, job=job, exports=made, reports=measured,
        formats=list(formats().values()), snippets=snippets(base, wanted, more),
    )  # fmt: skip


@router.get("/jobs/{job_id}/gallery")
async def read_gallery(
    job_id: UUID,
    viewer: Viewer,
    backends: Wired,
    *,
    label: Label = None,
    min_score: Annotated[float, Query(ge=0, le=1)] = 0.0,
    sort: Order = "index",
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> dict[str, Any]:
    """A page of the gallery, for its script."""

    def read() -> dict[str, Any]:
        with reading(backends.engine) as session:
            return asdict(
                gallery.tiles(
                    session, backends.storage, viewer.owner_id, job_id, label=label,
                    min_score=min_score, order=sort, cursor=cursor,
                )
            )  # fmt: skip

    return await run_sync(read)
