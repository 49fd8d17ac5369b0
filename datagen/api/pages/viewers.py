"""Who looks at a page: the holder of the session's cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from datagen.api.auth import Knowing
from datagen.api.sites import COOKIE
from datagen.errors import Unauthorized
from datagen.service import keys
from datagen.service.keys import Principal


async def _viewer(request: Request, callers: Knowing) -> Principal:
    session = request.cookies.get(COOKIE)
    if session is None:
        raise Unauthorized("You are not signed in.")
    found = await callers.by_session(request, session)
    request.state.viewer = found
    keys.require(found, "read")
    return found


async def _admin(viewer: Annotated[Principal, Depends(_viewer)]) -> Principal:
    keys.require(viewer, "admin")
    return viewer


Viewer = Annotated[Principal, Depends(_viewer)]
Administrator = Annotated[Principal, Depends(_admin)]
