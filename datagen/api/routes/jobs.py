"""Jobs and their samples."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Wired
from datagen.api.openapi import problems
from datagen.api.paging import Paged
from datagen.db.session import reading, writing
from datagen.schemas import (
    MAX_IMAGES,
    Job,
    JobCreate,
    JobExtend,
    JobPlan,
    Moment,
    Page,
    Sample,
    State,
)
from datagen.service import job_changes, job_plans, jobs, samples
from datagen.service.common import MAX_PAGE

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=ScopedRoute)

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of a page.")]
Index = Annotated[int, Path(ge=0, lt=MAX_IMAGES, description="The image's number in its job.")]


@router.post(
    "",
    status_code=202,
    summary="Ask for images",
    responses={
        **problems(404, 409, 413),
        200: {"model": JobPlan, "description": "The plan, where `dry_run` asked for it alone."},
    },
)
def create_job(
    wanted: JobCreate,
    answer: Response,
    backends: Wired,
    asker: Writer,
    *,
    dry_run: Annotated[bool, Query(description="Answer with the plan, and write nothing.")] = False,
) -> Job | JobPlan:
    """Accept a job: it ends succeeded, failed with a reason, or cancelled."""
    if dry_run:
        answer.status_code = HTTPStatus.OK
        with reading(backends.engine) as session:
            return job_plans.plan(session, backends.settings, asker.owner_id, wanted)
    with writing(backends.engine) as session:
        row, messages = jobs.create(session, backends.settings, asker.owner_id, wanted)
    backends.send(messages)
    answer.headers["Location"] = f"{router.prefix}/{row.id}"
    return row


@router.get("", summary="List jobs", responses=problems(404))
def list_jobs(
    backends: Wired,
    paging: Paged,
    asker: Reader,
    *,
    state: State | None = None,
    model: Annotated[
        str | None, Query(max_length=200, description="Only jobs of this model.")
    ] = None,
    created_after: Annotated[
        Moment | None, Query(description="Only jobs from this moment on.")
    ] = None,
    created_before: Annotated[
        Moment | None, Query(description="Only jobs before this moment.")
    ] = None,
    sort: Annotated[
        Literal["-created_at", "created_at"], Query(description="Newest or oldest first.")
    ] = "-created_at",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Job]:
    """Your jobs, in pages."""
    with reading(backends.engine) as session:
        return paging(
            jobs.list_jobs(
                session,
                asker.owner_id,
                state=state,
                model=model,
                created_after=created_after,
                created_before=created_before,
                oldest_first=sort == "created_at",
                limit=limit,
                cursor=cursor,
            )
        )


@router.get("/{job_id}", summary="Read a job", responses=problems(404))
def read_job(job_id: UUID, backends: Wired, asker: Reader) -> Job:
    """The job as it is now, with its progress per label."""
    with reading(backends.engine) as session:
        return jobs.read(session, asker.owner_id, job_id)


@router.post("/{job_id}/cancel", summary="Cancel a job", responses=problems(404, 409))
def cancel_job(job_id: UUID, backends: Wired, asker: Writer) -> Job:
    """Stop a job that has not ended; what it has stored stays and can be exported."""
    with writing(backends.engine) as session:
        job, messages = jobs.cancel(session, asker.owner_id, job_id)
    backends.send(messages)
    return job


@router.post(
    "/{job_id}/retry", status_code=202, summary="Retry a job", responses=problems(404, 409)
)
def retry_job(job_id: UUID, backends: Wired, asker: Writer) -> Job:
    """Have a job that failed or was cancelled go on where it ended; what it has stored stays."""
    with writing(backends.engine) as session:
        job, messages = job_changes.retry(session, backends.settings, asker.owner_id, job_id)
    backends.send(messages)
    return job


@router.post(
    "/{job_id}/extend",
    status_code=202,
    summary="Ask a job for more images",
    responses=problems(404, 409),
)
def extend_job(job_id: UUID, wanted: JobExtend, backends: Wired, asker: Writer) -> Job:
    """More images of the same job: the next indices, by the same seed, sampler and gate."""
    with writing(backends.engine) as session:
        job, messages = job_changes.extend(
            session, backends.settings, asker.owner_id, job_id, wanted
        )
    backends.send(messages)
    return job


@router.delete("/{job_id}", status_code=204, summary="Remove a job", responses=problems(404, 409))
def remove_job(
    job_id: UUID,
    backends: Wired,
    asker: Writer,
    *,
    force: Annotated[
        bool, Query(description="Also where exports or reports name it; they stay.")
    ] = False,
) -> None:
    """Take an ended job away for good, with its images."""
    with writing(backends.engine) as session:
        messages = job_changes.remove(session, asker.owner_id, job_id, force=force)
    backends.send(messages)


@router.get("/{job_id}/samples", summary="List a job's samples", responses=problems(404))
def list_samples(
    job_id: UUID,
    backends: Wired,
    paging: Paged,
    asker: Reader,
    *,
    label: Annotated[str | None, Query(max_length=400, description="Only this label.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Sample]:
    """What is stored, by index, in pages."""
    with reading(backends.engine) as session:
        return paging(
            samples.list_samples(
                session, asker.owner_id, job_id, label=label, limit=limit, cursor=cursor
            )
        )


@router.get("/{job_id}/samples/{index}", summary="Read a sample", responses=problems(404))
def read_sample(job_id: UUID, index: Index, backends: Wired, asker: Reader) -> Sample:
    """One image's label, score and digest."""
    with reading(backends.engine) as session:
        return samples.read_sample(session, asker.owner_id, job_id, index)


@router.get(
    "/{job_id}/samples/{index}/image",
    summary="Fetch a sample's image",
    response_class=Response,
    responses={**problems(404), 200: {"content": {"image/png": {}}, "description": "The PNG."}},
)
def read_sample_image(job_id: UUID, index: Index, backends: Wired, asker: Reader) -> Response:
    """One image as PNG; its bytes have the sample's digest and never change."""
    with reading(backends.engine) as session:
        png = samples.sample_image(session, backends.storage, asker.owner_id, job_id, index)
    headers = {
        "ETag": f'"{hashlib.sha256(png).hexdigest()}"',
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Response(png, media_type="image/png", headers=headers)
