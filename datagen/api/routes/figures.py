"""Figures: what a model has learnt, as pictures and numbers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Backends, Wired
from datagen.api.openapi import content_of, problems
from datagen.db.session import reading, writing
from datagen.schemas import Figures, FiguresCreate
from datagen.service import figures

router = APIRouter(
    prefix="/v1/models/{reference}/figures", tags=["models"], route_class=ScopedRoute
)

RETRY_SECONDS = 2
DatasetQuery = Annotated[
    str | None,
    Query(
        max_length=200,
        description="Real images to show beside, of a dataset of yours; by default what the model "
        "was trained on, if that is yours.",
    ),
]
_FILES = content_of(*figures.MEDIA_TYPES.values())


@router.post("", status_code=202, summary="Draw a model's figures", responses=problems(404, 409))
def create_figures(
    reference: str,
    backends: Wired,
    asker: Writer,
    wanted: Annotated[FiguresCreate | None, Body()] = None,
) -> Figures:
    """Have them drawn, with real images beside what the model makes where they may be shown.

    The same request again answers with the same figures; those that failed are drawn again.
    """
    with writing(backends.engine) as session:
        row, messages = figures.request(
            session, asker.owner_id, reference, wanted or FiguresCreate()
        )
    backends.send(messages)
    return row


@router.get("", summary="Read a model's figures", responses=problems(404, 409))
def read_figures(
    reference: str, backends: Wired, asker: Reader, dataset: DatasetQuery = None
) -> Figures:
    """Which there are, and how far drawing them is; they are drawn when first asked for."""
    return _asked_for(backends, asker, reference, dataset)


def _asked_for(backends: Backends, asker: Reader, reference: str, dataset: str | None) -> Figures:
    wanted = FiguresCreate(dataset=dataset)
    with reading(backends.engine) as session:
        known = figures.known(session, asker.owner_id, reference, wanted)
    if known is not None:
        return known
    with writing(backends.engine) as session:
        row, messages = figures.request(session, asker.owner_id, reference, wanted)
    backends.send(messages)
    return row


@router.get(
    "/{name}",
    summary="Fetch a figure",
    response_class=Response,
    responses={
        **problems(404, 409),
        200: {"content": _FILES, "description": "The picture, or its numbers."},
        202: {"model": Figures, "description": "It is being drawn; ask again in a moment."},
    },
)
def read_figure(
    reference: str, name: str, backends: Wired, asker: Reader, dataset: DatasetQuery = None
) -> Response:
    """One figure as `name.png`, `name.svg`, or its numbers as `name.json`."""
    figures.check_name(name)
    row = _asked_for(backends, asker, reference, dataset)
    if row.state in {"queued", "running"}:
        return Response(
            row.model_dump_json(),
            status_code=202,
            media_type="application/json",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    with reading(backends.engine) as session:
        data, media_type = figures.read_file(session, backends.storage, row, name)
    headers = {"ETag": f'"{row.digest}-{name}"', "Cache-Control": "private, no-cache"}
    return Response(data, media_type=media_type, headers=headers)
