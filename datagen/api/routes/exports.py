"""Exports and their archives."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from datagen.api.auth import Reader, Writer
from datagen.api.backends import Wired
from datagen.api.downloads import archive_response
from datagen.api.openapi import problems
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.errors import NotFound
from datagen.schemas import Export, ExportCreate, Page
from datagen.service import exports

router = APIRouter(prefix="/v1/exports", tags=["exports"])


@router.post("", status_code=202, summary="Write a dataset", responses=problems(404, 409, 413))
def create_export(wanted: ExportCreate, answer: Response, backends: Wired, asker: Writer) -> Export:
    """Write what an ended job has stored in a format; `GET /v1/formats` lists them."""
    with writing(backends.engine) as session:
        export, messages = exports.create(session, asker.owner_id, wanted)
    backends.send(messages)
    answer.headers["Location"] = f"{router.prefix}/{export.id}"
    return export


@router.get("", summary="List exports, newest first", responses=problems())
def list_exports(
    backends: Wired,
    asker: Reader,
    job: Annotated[UUID | None, Query(description="Only those of this job.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Export]:
    """Your exports, in pages."""
    with reading(backends.engine) as session:
        return exports.list_exports(session, asker.owner_id, job_id=job, limit=limit, cursor=cursor)


@router.get("/{export_id}", summary="Read an export", responses=problems(404))
def read_export(export_id: UUID, backends: Wired, asker: Reader) -> Export:
    """The export as it is now, with its progress."""
    with reading(backends.engine) as session:
        return exports.read(session, asker.owner_id, export_id)


@router.get(
    "/{export_id}/download",
    summary="Download an export",
    response_class=Response,
    responses={
        **problems(404, 409, 416),
        200: {"content": {"application/zip": {}}, "description": "The archive."},
        206: {"content": {"application/zip": {}}, "description": "The range asked for."},
        304: {"description": "The archive is the one you have (`If-None-Match`)."},
    },
)
def download_export(export_id: UUID, request: Request, backends: Wired, asker: Reader) -> Response:
    """The archive, whole or by `Range`; its `ETag` is the SHA-256 of its bytes."""
    with reading(backends.engine) as session:
        row = exports.archive(session, asker.owner_id, export_id)
        key, size, digest = str(row.archive_key), int(row.bytes or 0), str(row.digest)
        filename = f"datagen-{row.format}-{row.id}.zip"
    try:
        reader = backends.storage.open(key)
    except FileNotFoundError:
        raise NotFound(
            f"The archive of export {export_id} is missing from the storage; create the export "
            "again."
        ) from None
    return archive_response(reader, request.headers, size=size, digest=digest, filename=filename)
