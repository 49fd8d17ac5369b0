"""Keys, for administrators."""

from __future__ import annotations

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from datagen.api.backends import Wired
from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Administrator
from datagen.db.session import reading
from datagen.schemas import Key, Page
from datagen.service import keys

router = APIRouter()
ON_A_PAGE = 100


@router.get("/keys")
async def show_keys(
    request: Request, viewer: Administrator, backends: Wired, cursor: str | None = None
) -> Response:
    """All keys, newest first."""

    def read() -> Page[Key]:
        with reading(backends.engine) as session:
            return keys.list_keys(session, limit=ON_A_PAGE, cursor=cursor)

    return render(request, "keys.html", viewer, page=await run_sync(read))
