"""Datasets: the list with the upload, and one with its classes, images, problems and versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from datagen.api.backends import Wired
from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Viewer
from datagen.db.session import reading
from datagen.schemas import Dataset, Page
from datagen.service import dataset_images, datasets

router = APIRouter()
ON_A_PAGE = 50


@router.get("/datasets")
async def list_datasets(
    request: Request,
    viewer: Viewer,
    backends: Wired,
    *,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """The list, newest first."""

    def read() -> Page[Dataset]:
        with reading(backends.engine) as session:
            return datasets.list_datasets(session, viewer.owner_id, limit=ON_A_PAGE, cursor=cursor)

    return render(request, "datasets.html", viewer, page=await run_sync(read))


@router.get("/datasets/{reference}")
async def show_dataset(
    reference: str, request: Request, viewer: Viewer, backends: Wired
) -> Response:
    """A dataset."""

    def read() -> tuple[Dataset, list[Dataset]]:
        with reading(backends.engine) as session:
            found = datasets.read(session, viewer.owner_id, reference)
            return found, datasets.versions(session, viewer.owner_id, found.name)

    dataset, versions = await run_sync(read)
    return render(request, "dataset.html", viewer, dataset=dataset, versions=versions)


@router.get("/datasets/{reference}/images")
async def read_images(
    reference: str,
    viewer: Viewer,
    backends: Wired,
    *,
    split: Annotated[str, Query(max_length=20)] = "train",
    label: Annotated[str | None, Query(max_length=200)] = None,
    start: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Some images of a split, for the grid's script."""

    def read() -> dict[str, Any]:
        with reading(backends.engine) as session:
            return asdict(
                dataset_images.images(
                    session, backends.storage, viewer.owner_id, reference, split, label, start
                )
            )

    return await run_sync(read)
