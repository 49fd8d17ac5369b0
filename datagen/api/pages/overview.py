"""The overview."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response

from datagen.api.asking import Asking, Listener
from datagen.api.backends import Wired
from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Viewer
from datagen.db.session import reading
from datagen.errors import QueueUnavailable
from datagen.schemas import Me
from datagen.service import keys, overview
from datagen.service.overview import Overview

router = APIRouter()


async def asking_of(request: Request) -> Asking:
    """The application's connections to workers."""
    found: Asking = request.app.state.asking
    return found


@router.get("/")
async def show_overview(
    request: Request,
    viewer: Viewer,
    backends: Wired,
    asking: Annotated[Asking, Depends(asking_of)],
) -> Response:
    """What is at work, how fast, and what comes next."""

    def read() -> tuple[Overview, Me]:
        with reading(backends.engine) as session:
            return (
                overview.overview(session, viewer.owner_id),
                keys.me(session, backends.settings, viewer),
            )

    seen, me = await run_sync(read)
    listeners: list[Listener] = []
    broker = None
    try:
        listeners = await asking.listeners()
    except QueueUnavailable as error:
        broker = error.detail
    return render(
        request, "overview.html", viewer, seen=seen, me=me, listeners=listeners, broker=broker
    )
