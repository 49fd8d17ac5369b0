"""Datasets: upload and read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from datagen.api.auth import Reader, Writer
from datagen.api.backends import Backends, Wired
from datagen.api.openapi import problems
from datagen.api.routes.jobs import Cursor, Limit
from datagen.api.uploads import receive_file
from datagen.db.session import reading, writing
from datagen.schemas import Dataset, Name, Page
from datagen.service import datasets

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

_TAR = {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "",
    status_code=201,
    summary="Upload a dataset",
    responses=problems(413, 507),
    openapi_extra={"requestBody": {"required": True, "content": _TAR}},
)
async def create_dataset(
    request: Request,
    answer: Response,
    backends: Wired,
    asker: Writer,
    name: Annotated[Name, Query(description="What the dataset is called.")],
) -> Dataset:
    """Register the images in a tar of class folders or MNIST IDX files as the body.

    The same images again under the same name answer with the same dataset; others become its next
    version.
    """
    with tempfile.TemporaryDirectory(prefix="datagen-upload-") as folder:
        archive = Path(folder, "dataset.tar")
        await receive_file(request, archive)
        dataset = await run_sync(_register, backends, asker.owner_id, name, archive)
    answer.headers["Location"] = f"{router.prefix}/{dataset.id}"
    return dataset


def _register(backends: Backends, owner_id: UUID, name: str, archive: Path) -> Dataset:
    splits = datasets.ingest(backends.storage, archive)
    with writing(backends.engine) as session:
        return datasets.register(session, backends.storage, owner_id, name, splits)


@router.get("", summary="List datasets, newest first", responses=problems())
def list_datasets(
    backends: Wired, asker: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Page[Dataset]:
    """Your datasets, in pages."""
    with reading(backends.engine) as session:
        return datasets.list_datasets(session, asker.owner_id, limit=limit, cursor=cursor)


@router.get("/{reference}", summary="Read a dataset", responses=problems(404))
def read_dataset(reference: str, backends: Wired, asker: Reader) -> Dataset:
    """A dataset by name (its latest version), name@version or id."""
    with reading(backends.engine) as session:
        return datasets.read(session, asker.owner_id, reference)
