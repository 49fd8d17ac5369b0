"""Datasets: create, read, remove."""

from __future__ import annotations

import json
from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Backends, Wired
from datagen.api.errors import invalid_body
from datagen.api.openapi import content_of, problems
from datagen.api.paging import Paged
from datagen.api.reading import Readings
from datagen.api.routes.jobs import Cursor, Limit
from datagen.api.uploads import is_json, receive_file, receive_json
from datagen.datasets.balance import draw_balance
from datagen.datasets.reading import DEFAULT_SHARES, ReadOptions, shares_of
from datagen.db.session import reading, writing
from datagen.errors import InvalidRequest, MalformedRequest, NotFound
from datagen.schemas import (
    NAME_PATTERN,
    Dataset,
    DatasetCreate,
    DatasetDryRun,
    DatasetInspection,
    License,
    Page,
    Seed,
)
from datagen.scratch import scratch
from datagen.service import datasets
from datagen.service.ingesting import Ingested
from datagen.service.reader import prepare_reader

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=ScopedRoute)

_FILE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "description": "An archive or a file with the images, or JSON that names where they lie.",
    "content": {
        "application/x-tar": _FILE,
        "application/gzip": _FILE,
        "application/zip": _FILE,
        "application/vnd.apache.parquet": _FILE,
        "application/octet-stream": _FILE,
        "application/json": {"schema": {"$ref": "#/components/schemas/DatasetCreate"}},
    },
}
_PICTURES = {"png": "image/png", "svg": "image/svg+xml"}


@router.post(
    "",
    status_code=201,
    summary="Create a dataset",
    responses={
        **problems(404, 413, 507),
        200: {
            "model": DatasetInspection,
            "description": "What the source holds, where `dry_run` asked for it alone.",
        },
    },
    openapi_extra={"requestBody": _BODY},
)
async def create_dataset(
    request: Request,
    answer: Response,
    backends: Wired,
    asker: Writer,
    name: Annotated[
        str | None,
        Query(
            pattern=NAME_PATTERN, description="What the dataset is called; in JSON if the body is."
        ),
    ] = None,
    size: Annotated[int | None, Query(ge=1, le=1024, description="Side of every image.")] = None,
    pad: Annotated[bool, Query(description="Keep the proportions, and fill up the edges.")] = False,
    on_error: Annotated[
        Literal["fail", "skip"],
        Query(description="Whether a file that cannot be read refuses all, or is left out."),
    ] = "fail",
    split: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Shares of the splits, where the data come with none.",
            examples=["train=0.8,validation=0.1,test=0.1"],
        ),
    ] = None,
    seed: Annotated[Seed, Query(description="Which images go into which split.")] = 0,
    license: Annotated[License | None, Query()] = None,  # noqa: A002 - the word that hubs have for it
    zip_encoding: Annotated[
        str | None,
        Query(
            max_length=40,
            description="Encoding of the names in a zip that does not say that they are UTF-8.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, Query(description="Answer with what the source holds, and register nothing.")
    ] = False,
) -> Dataset | DatasetInspection:
    """Register labelled images as the body, or from where the server may read them.

    The body is a tar, a tar.gz, a zip, an NPZ or a Parquet file, known by its first bytes, in any
    layout that datagen reads. With `Content-Type: application/json` it names a `source`, and all
    else stands in it too. The same images again under the same name answer with the same dataset;
    others become its next version.
    """
    readings: Readings = request.app.state.readings
    read = partial(readings.read, request, asker.owner_id)
    with scratch("upload") as folder:
        if is_json(request.headers):
            body = await receive_json(request, backends.settings.max_body_bytes)
            if dry_run:
                source = _parsed(body, DatasetDryRun)
                answer.status_code = HTTPStatus.OK
                return await read(lambda reader: datasets.inspect_source(reader, source))
            wanted = _parsed(body, DatasetCreate)
            name, licence = wanted.name, datasets.licence_of_source(wanted)
            ingested = await read(
                lambda reader: datasets.ingest_source(backends.storage, reader, wanted)
            )
        else:
            shares = DEFAULT_SHARES if split is None else shares_of(split)
            options = ReadOptions(size, pad, on_error, shares, seed, zip_encoding)
            if not dry_run:
                _check_name(name)
            upload, licence = folder / "upload", license
            await run_sync(prepare_reader)
            await receive_file(request, upload)
            if dry_run:
                answer.status_code = HTTPStatus.OK
                return await read(lambda reader: datasets.inspect(reader, upload, options))
            ingested = await read(
                lambda reader: datasets.ingest(backends.storage, reader, upload, options)
            )
    dataset = await run_sync(
        _register, backends, asker.owner_id, _check_name(name), ingested, licence
    )
    answer.headers["Location"] = f"{router.prefix}/{dataset.id}"
    return dataset


def _check_name(name: str | None) -> str:
    if name is None:
        raise InvalidRequest("The query names no dataset; give it a name.", field="name")
    datasets.check_dataset_name(name)
    return name


_Source = TypeVar("_Source", DatasetCreate, DatasetDryRun)


def _parsed(body: bytes, schema: type[_Source]) -> _Source:
    # As the framework parses the bodies of other routes.
    try:
        return schema.model_validate(json.loads(body))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedRequest("The body cannot be read; send one JSON object.") from None
    except ValidationError as error:
        raise invalid_body(error) from None


def _register(
    backends: Backends,
    owner_id: UUID,
    name: str,
    ingested: Ingested,
    licence: str | None,
) -> Dataset:
    with writing(backends.engine) as session:
        return datasets.take(session, backends.settings, owner_id, name, ingested, licence)


@router.get("", summary="List datasets, newest first", responses=problems())
def list_datasets(
    backends: Wired, paging: Paged, asker: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Page[Dataset]:
    """Your datasets, in pages."""
    with reading(backends.engine) as session:
        return paging(datasets.list_datasets(session, asker.owner_id, limit=limit, cursor=cursor))


@router.get("/{reference}", summary="Read a dataset", responses=problems(404))
def read_dataset(reference: str, backends: Wired, asker: Reader) -> Dataset:
    """A dataset by name (its latest version), name@version or id."""
    with reading(backends.engine) as session:
        return datasets.read(session, asker.owner_id, reference)


@router.delete(
    "/{reference}", status_code=204, summary="Remove a dataset", responses=problems(404, 409)
)
def remove_dataset(
    reference: str,
    backends: Wired,
    asker: Writer,
    *,
    force: Annotated[
        bool, Query(description="Although models were trained on it: they stay, its images go.")
    ] = False,
) -> None:
    """Remove a dataset; a name that has several versions must say which."""
    with writing(backends.engine) as session:
        datasets.remove(session, asker.owner_id, reference, force=force)


@router.get(
    "/{reference}/balance.{kind}",
    summary="See the class balance",
    response_class=Response,
    responses={
        **problems(404),
        200: {"content": content_of(*_PICTURES.values()), "description": "The picture."},
    },
)
def show_balance(reference: str, kind: str, backends: Wired, asker: Reader) -> Response:
    """Images per class and split as bars, PNG or SVG; the numbers are the dataset's `counts`."""
    if kind not in _PICTURES:
        raise NotFound(f"There is no balance.{kind[:20]}; there are balance.png and balance.svg.")
    with reading(backends.engine) as session:
        dataset = datasets.read(session, asker.owner_id, reference)
    picture = draw_balance(
        f"{dataset.name}@{dataset.version}", dataset.class_names, dataset.counts, kind
    )
    return Response(picture, media_type=_PICTURES[kind])
