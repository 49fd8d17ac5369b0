"""Previews: a few images at once, of which nothing is kept."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.orm import Session

from datagen.api.asking import Asking
from datagen.api.auth import Reader, ScopedRoute
from datagen.api.backends import Backends, Wired
from datagen.api.openapi import problems
from datagen.db.session import reading
from datagen.errors import InvalidRequest
from datagen.images import labelled_sheet
from datagen.schemas import DecodeCreate, Pictured, Preview, PreviewCreate
from datagen.service import previews
from datagen.service.previews import Asked

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=ScopedRoute)


def _asking(request: Request) -> Asking:
    found: Asking = request.app.state.asking
    return found


Worker = Annotated[Asking, Depends(_asking)]
_ANSWERS = {
    **problems(404, 409, 503),
    200: {"content": {"image/png": {}}, "description": "The images, or one sheet of them."},
}


@router.post(
    "/{reference}/preview",
    summary="See a few images at once",
    response_model=Preview,
    responses=_ANSWERS,
)
async def preview_model(
    reference: str, wanted: PreviewCreate, backends: Wired, asker: Reader, worker: Worker
) -> Preview | Response:
    """Up to 64 images, made by a worker for this answer alone; the same request gives the same."""
    owner_id = asker.owner_id
    return await _answered(
        backends, worker, owner_id, wanted, lambda s: previews.drawn(s, owner_id, reference, wanted)
    )


@router.post(
    "/{reference}/decode",
    summary="See what given latents show",
    response_model=Preview,
    responses=_ANSWERS,
)
async def decode_latents(
    reference: str, wanted: DecodeCreate, backends: Wired, asker: Reader, worker: Worker
) -> Preview | Response:
    """The images of up to 64 latents, each with its label; nothing is kept."""
    owner_id: UUID = asker.owner_id
    return await _answered(
        backends,
        worker,
        owner_id,
        wanted,
        lambda s: previews.decoded(s, owner_id, reference, wanted),
    )


async def _answered(
    backends: Backends,
    worker: Asking,
    owner_id: UUID,
    wanted: Pictured,
    resolve: Callable[[Session], Asked],
) -> Preview | Response:
    def resolved() -> Asked:
        with reading(backends.engine) as session:
            return resolve(session)

    asked = await run_sync(resolved)
    preview = previews.to_schema(asked, await worker.ask(owner_id, asked.work))
    if wanted.format == "json":
        return preview
    return Response(await run_sync(_sheet, preview, wanted.scale), media_type="image/png")


def _sheet(preview: Preview, scale: int) -> bytes:
    if not preview.images:
        raise InvalidRequest("No image passed the gate; lower 'min_score'.", field="gate")
    pngs = [base64.b64decode(image.png) for image in preview.images]
    return labelled_sheet(pngs, [image.label for image in preview.images], scale=scale)
