"""Models: train, read, compare, move, remove."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, BinaryIO, cast
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Backends, Wired
from datagen.api.downloads import answered, stored
from datagen.api.openapi import problems
from datagen.api.paging import Paged
from datagen.api.reading import Readings
from datagen.api.routes.jobs import Cursor, Limit
from datagen.api.uploads import receive_file
from datagen.db.session import reading, writing
from datagen.schemas import Comparison, Model, ModelChange, ModelCreate, Name, Page
from datagen.scratch import scratch
from datagen.service import comparing, models, transfer
from datagen.service.packages import Package
from datagen.service.reader import FileReader, prepare_reader
from datagen.storage import digest_of

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=ScopedRoute)


@router.post("", status_code=202, summary="Train a model", responses=problems(404, 409, 413))
def create_model(wanted: ModelCreate, answer: Response, backends: Wired, asker: Writer) -> Model:
    """Train a generator and its judge on a dataset; the next version of the name."""
    with writing(backends.engine) as session:
        model, messages = models.create(session, backends.settings, asker.owner_id, wanted)
    backends.send(messages)
    answer.headers["Location"] = f"{router.prefix}/{model.id}"
    return model


@router.get("", summary="List models, newest first", responses=problems())
def list_models(
    backends: Wired, paging: Paged, asker: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Page[Model]:
    """Your own and the public models, in pages."""
    with reading(backends.engine) as session:
        return paging(models.list_models(session, asker.owner_id, limit=limit, cursor=cursor))


@router.get("/compare", summary="Compare models", responses=problems(404))
def compare_models(
    backends: Wired,
    asker: Reader,
    model: Annotated[
        list[str], Query(description="Name, name@version or id; two or more.", max_length=16)
    ],
) -> Comparison:
    """Models side by side, with what differs and which is best where they can be compared."""
    with reading(backends.engine) as session:
        return comparing.compare(session, asker.owner_id, model)


@router.post(
    "/import",
    status_code=201,
    summary="Import a model",
    responses=problems(413, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def import_model(
    request: Request,
    answer: Response,
    backends: Wired,
    asker: Writer,
    name: Annotated[Name, Query(description="What the model is called.")],
) -> Model:
    """Register what `GET /v1/models/{reference}/export` gave, as the next version of a name.

    All of it is checked first: digests, headers, the shape of every tensor. The same model again
    under the same name answers with the same version.
    """
    readings: Readings = request.app.state.readings
    with scratch("import") as folder:
        upload = folder / "upload"
        await run_sync(prepare_reader)
        await receive_file(request, upload)
        package, keys = await readings.read(
            request, asker.owner_id, lambda reader: _stored(backends, reader, upload)
        )
    model = await run_sync(_register, backends, asker.owner_id, name, package, keys)
    answer.headers["Location"] = f"{router.prefix}/{model.id}"
    return model


def _stored(backends: Backends, reader: FileReader, upload: Path) -> tuple[Package, dict[str, str]]:
    unpacked = upload.with_name("unpacked")
    unpacked.mkdir()
    package = transfer.read_in_process(reader, upload, unpacked)
    return package, transfer.store_package(backends.storage, package)


def _register(
    backends: Backends, owner_id: UUID, name: str, package: Package, keys: dict[str, str]
) -> Model:
    with writing(backends.engine) as session:
        return transfer.register(session, owner_id, name, package, keys)


@router.get("/{reference}", summary="Read a model", responses=problems(404))
def read_model(reference: str, backends: Wired, asker: Reader) -> Model:
    """A model by name (its latest version), name@version or id."""
    with reading(backends.engine) as session:
        return models.read(session, asker.owner_id, reference)


@router.patch("/{reference}", summary="Share a model", responses=problems(404, 409))
def change_model(reference: str, wanted: ModelChange, backends: Wired, asker: Writer) -> Model:
    """Let every owner make images with a model, or keep it to yourself again."""
    with writing(backends.engine) as session:
        return models.change(session, asker.owner_id, reference, wanted)


@router.post("/{reference}/cancel", summary="Cancel a training", responses=problems(404, 409))
def cancel_model(reference: str, backends: Wired, asker: Writer) -> Model:
    """Stop a training that has not ended."""
    with writing(backends.engine) as session:
        found = models.read(session, asker.owner_id, reference)
        return models.cancel(session, asker.owner_id, found.id)


@router.delete(
    "/{reference}", status_code=204, summary="Remove a model", responses=problems(404, 409)
)
def remove_model(
    reference: str,
    backends: Wired,
    asker: Writer,
    *,
    force: Annotated[
        bool, Query(description="Although jobs have used it: they stay, its weights go.")
    ] = False,
) -> None:
    """Remove a model; a name that has several versions must say which."""
    with writing(backends.engine) as session:
        models.remove(session, asker.owner_id, reference, force=force)


@router.get(
    "/{reference}/export",
    summary="Export a model",
    response_class=Response,
    responses={
        **problems(404, 409, 416),
        200: {"content": {"application/zip": {}}, "description": "The model, as one zip."},
        206: {"content": {"application/zip": {}}, "description": "The requested range."},
    },
)
def export_model(reference: str, request: Request, backends: Wired, asker: Reader) -> Response:
    """A model with its judge, its options and its metrics, to be imported elsewhere.

    The examples, from which `neighbour` and `interpolate` start, are in it for the owner alone.
    """
    file = cast("BinaryIO", tempfile.TemporaryFile(prefix="datagen-export-"))  # noqa: SIM115 - closed when all is sent
    try:
        with reading(backends.engine) as session:
            model = transfer.write_package(
                session, backends.storage, asker.owner_id, reference, file
            )
        size = file.tell()
        file.seek(0)
        digest = digest_of(file)
    except BaseException:
        file.close()
        raise
    filename = f"{model.name}-{model.version}.zip"
    content = stored(file, size=size, digest=digest, filename=filename)
    return answered(content, request.headers)
