"""About: versions, and where to read more."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request, Response

from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Viewer

router = APIRouter()
SHOWN = ("datagen", "torch", "torchvision", "celery", "redis", "sqlalchemy", "fastapi", "pyarrow")


@router.get("/about")
async def show_about(request: Request, viewer: Viewer) -> Response:
    """Versions and links."""
    return render(request, "about.html", viewer, versions={name: version(name) for name in SHOWN})
