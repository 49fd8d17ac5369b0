"""One sample, large, with all that is known of it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Request, Response

from datagen.api.backends import Wired
from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Viewer
from datagen.db.session import reading
from datagen.schemas import MAX_IMAGES, Job, Sample
from datagen.service import jobs, nearest, samples
from datagen.service.nearest import Near

router = APIRouter()


@router.get("/jobs/{job_id}/samples/{index}")
async def show_sample(
    job_id: UUID,
    index: Annotated[int, Path(ge=0, lt=MAX_IMAGES)],
    request: Request,
    viewer: Viewer,
    backends: Wired,
) -> Response:
    """The sample, its neighbours in the job, and the real images nearest to it."""

    def read() -> tuple[Job, Sample, list[Near]]:
        with reading(backends.engine) as session:
            job = jobs.read(session, viewer.owner_id, job_id)
            sample = samples.read_sample(session, viewer.owner_id, job_id, index)
            near = nearest.nearest(session, backends.storage, viewer.owner_id, job_id, index)
        return job, sample, near

    job, sample, near = await run_sync(read)
    return render(request, "sample.html", viewer, job=job, sample=sample, near=near)
