"""The formats that exports can be written in."""

from __future__ import annotations

from fastapi import APIRouter

from datagen.api.auth import Reader
from datagen.api.openapi import problems
from datagen.export.formats import FORMATS
from datagen.schemas import Page

router = APIRouter(prefix="/v1/formats", tags=["exports"])


@router.get("", summary="List export formats", responses=problems())
def list_formats(_asker: Reader) -> Page[str]:
    """The names that `POST /v1/exports` takes."""
    return Page[str](items=sorted(FORMATS))
