"""Exports: create, read, cancel, remove; and their files, as archives or one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote, urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from datagen.api.auth import Credentials, Reader, ScopedRoute, Writer, admit
from datagen.api.backends import Backends, Wired
from datagen.api.downloads import ZIP, Content, answered, stored
from datagen.api.openapi import content_of, problems
from datagen.api.paging import Paged
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.errors import NotFound
from datagen.schemas import Export, ExportCreate, Link, LinkCreate, Page
from datagen.service import exports, links
from datagen.service.exports import StoredExport
from datagen.service.keys import Principal

router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=ScopedRoute)

Archive = Literal["zip", "tar"]
TAR = "application/x-tar"
# What a browser may show is not sent as such: a class can be called anything.
_MEDIA_TYPES = {
    "png": "image/png",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "tar": TAR,
    "zip": ZIP,
    "npz": ZIP,
}
_OCTETS = "application/octet-stream"
_FILES = content_of(*_MEDIA_TYPES.values(), _OCTETS)


@dataclass(frozen=True)
class Signed:
    """What a link carries in its query."""

    expires: Annotated[
        int | None, Query(ge=0, le=2**53, description="Of a link: the second at which it ends.")
    ] = None
    signature: Annotated[
        str | None, Query(max_length=128, description="Of a link: the service's signature.")
    ] = None


Linked = Annotated[Signed, Depends()]


async def _opener(request: Request, credentials: Credentials, link: Linked) -> Principal | None:
    """Who asks by a key; None where a link is to open the export."""
    del credentials
    return None if link.signature is not None else await admit(request, "read")


Opener = Annotated[Principal | None, Depends(_opener)]


@router.post("", status_code=202, summary="Write a dataset", responses=problems(404, 409, 413))
def create_export(wanted: ExportCreate, answer: Response, backends: Wired, asker: Writer) -> Export:
    """Write images of ended jobs, of a dataset, or of both in a format.

    `GET /v1/formats` lists the formats. Real images keep the split that they came with, synthetic
    ones go into `train` unless `splits` shares them out; a `plan` says how many of them go beside
    real ones.
    """
    with writing(backends.engine) as session:
        export, messages = exports.create(session, backends.settings, asker.owner_id, wanted)
    backends.send(messages)
    answer.headers["Location"] = f"{router.prefix}/{export.id}"
    return export


@router.get("", summary="List exports, newest first", responses=problems())
def list_exports(
    backends: Wired,
    paging: Paged,
    asker: Reader,
    job: Annotated[UUID | None, Query(description="Only those with images of this job.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Export]:
    """Your exports, in pages."""
    with reading(backends.engine) as session:
        return paging(
            exports.list_exports(session, asker.owner_id, job_id=job, limit=limit, cursor=cursor)
        )


@router.get("/{export_id}", summary="Read an export", responses=problems(404))
def read_export(export_id: UUID, backends: Wired, asker: Reader) -> Export:
    """The export as it is now, with its progress."""
    with reading(backends.engine) as session:
        return exports.read(session, asker.owner_id, export_id)


@router.post("/{export_id}/cancel", summary="Cancel an export", responses=problems(404, 409))
def cancel_export(export_id: UUID, backends: Wired, asker: Writer) -> Export:
    """End it now."""
    with writing(backends.engine) as session:
        return exports.cancel(session, asker.owner_id, export_id)


@router.delete(
    "/{export_id}", status_code=204, summary="Remove an export", responses=problems(404, 409)
)
def remove_export(export_id: UUID, backends: Wired, asker: Writer) -> None:
    """Remove one that has ended, with its files."""
    with writing(backends.engine) as session:
        exports.remove(session, asker.owner_id, export_id)


@router.post(
    "/{export_id}/links",
    status_code=201,
    summary="Make a link",
    responses=problems(404, 409, 410),
)
def create_link(
    export_id: UUID, wanted: LinkCreate, request: Request, backends: Wired, asker: Writer
) -> Link:
    """A URL that downloads the export, or one file of it, without a key, for a while.

    Where the store is S3, the link of a zip leads straight there.
    """
    with writing(backends.engine) as session:
        found = exports.archive(session, asker.owner_id, export_id)
        expires_at = links.expiry(session, wanted.expires_in)
        what = f"file {wanted.file}" if wanted.file is not None else wanted.archive
        expires = int(expires_at.timestamp())
        signature = links.signature(session, export_id, what, expires)
    if wanted.file is not None:
        _file(backends, found, wanted.file).close()
    elif wanted.archive == "zip":
        straight = backends.storage.link(found.archive_key, wanted.expires_in, _filename(found))
        if straight is not None:
            return Link(url=straight, expires_at=expires_at)
    path = f"{router.prefix}/{export_id}"
    query = {"expires": str(expires), "signature": signature}
    if wanted.file is not None:
        path += f"/files/{quote(wanted.file)}"
    else:
        path += "/download"
        query = {"archive": wanted.archive, **query}
    url = f"{str(request.base_url).rstrip('/')}{path}?{urlencode(query)}"
    return Link(url=url, expires_at=expires_at)


@router.get(
    "/{export_id}/download",
    summary="Download an export",
    response_class=Response,
    responses={
        **problems(404, 409, 410, 416),
        200: {"content": {ZIP: {}, TAR: {}}, "description": "The archive."},
        206: {"content": {ZIP: {}, TAR: {}}, "description": "The requested range."},
        304: {"description": "The archive is the one you have (`If-None-Match`)."},
    },
)
def download_export(
    export_id: UUID,
    request: Request,
    backends: Wired,
    asker: Opener,
    link: Linked,
    archive: Annotated[
        Archive, Query(description="A zip as it is stored, or a tar made on the fly.")
    ] = "zip",
) -> Response:
    """The archive, whole or by `Range`, with a key or by a link; its `ETag` tells its bytes."""
    found = _asked_for(backends, asker, link, export_id, archive)
    return answered(_archive(backends, found, archive), request.headers)


@router.get(
    "/{export_id}/files/{path:path}",
    summary="Fetch a file of an export",
    response_class=Response,
    responses={
        **problems(404, 409, 410, 416),
        200: {"content": _FILES, "description": "The file."},
        206: {"content": _FILES, "description": "The requested range."},
        304: {"description": "The file is the one you have (`If-None-Match`)."},
    },
)
def read_file(
    export_id: UUID,
    path: str,
    request: Request,
    backends: Wired,
    asker: Opener,
    link: Linked,
) -> Response:
    """One file, whole or by `Range`, with a key or by a link; `manifest.json` names them all."""
    found = _asked_for(backends, asker, link, export_id, f"file {path}")
    return answered(_file(backends, found, path), request.headers)


def _asked_for(
    backends: Backends, asker: Principal | None, link: Signed, export_id: UUID, what: str
) -> StoredExport:
    """The export that a key or a link opens. Raises Forbidden, and what it is not."""
    with reading(backends.engine) as session:
        if asker is not None:
            return exports.archive(session, asker.owner_id, export_id)
        links.check(session, export_id, what, link.expires or 0, link.signature or "")
        return exports.archive(session, None, export_id)


def _filename(found: StoredExport, ending: str = "zip") -> str:
    return f"datagen-{found.format}-{found.export_id}.{ending}"


def _archive(backends: Backends, found: StoredExport, kind: Archive) -> Content:
    if kind == "zip":
        reader = exports.opened_file(backends.storage, found, found.archive_key)
        return stored(reader, size=found.size, digest=found.digest, filename=_filename(found))
    packed = exports.opened(backends.storage, found)
    return Content(
        size=packed.tar_bytes,
        tag=f"{found.digest}-tar",
        filename=_filename(found, "tar"),
        media_type=TAR,
        read=packed.read_tar,
        close=packed.close,
    )


def _file(backends: Backends, found: StoredExport, path: str) -> Content:
    packed = exports.opened(backends.storage, found)
    file = packed.find(path)
    if file is None:
        packed.close()
        raise NotFound(
            f"Export {found.export_id} has no file {path[:200]!r}; manifest.json names them."
        )
    name = path.rpartition("/")[2]
    return Content(
        size=file.bytes,
        tag=file.sha256,
        filename=name,
        media_type=_MEDIA_TYPES.get(name.rpartition(".")[2], _OCTETS),
        read=lambda start, stop: packed.read(file.offset + start, file.offset + stop),
        close=packed.close,
    )
