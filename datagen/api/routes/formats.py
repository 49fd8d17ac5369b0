"""The formats that exports can be written in."""

from __future__ import annotations

from fastapi import APIRouter

from datagen.api.auth import Reader, ScopedRoute
from datagen.api.openapi import problems
from datagen.export.formats import formats
from datagen.schemas import Format, Page

router = APIRouter(prefix="/v1/formats", tags=["exports"], route_class=ScopedRoute)


@router.get("", summary="List export formats", responses=problems())
def list_formats(_asker: Reader) -> Page[Format]:
    """The formats that `POST /v1/exports` takes, and what each can hold."""
    return Page[Format](items=[Format.model_validate(found) for found in formats().values()])
