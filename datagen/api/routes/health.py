"""Whether the process lives, and whether the parts that it needs answer, to whoever asks."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from datagen.api.auth import admit
from datagen.api.backends import Wired
from datagen.api.readiness import look_at_parts, without_reasons
from datagen.errors import DatagenError
from datagen.schemas import Readiness

router = APIRouter(tags=["service"])


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves requests."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Do the parts answer?",
    responses={503: {"model": Readiness, "description": "A part is away; `parts` says which."}},
)
async def readyz(request: Request, answer: Response, backends: Wired) -> Readiness:
    """Looks at database, schema, storage and broker, each for two seconds at most.

    What is wrong with a part may name users, hosts and folders, so it is shown to administrators
    alone: send a key of that scope.
    """
    found = await look_at_parts(backends, request.app.state.looks)
    answer.status_code = 200 if found.ready else 503
    return found if await _is_administrator(request) else without_reasons(found)


async def _is_administrator(request: Request) -> bool:
    if "authorization" not in request.headers:
        return False
    try:
        await admit(request, "admin")
    except (DatagenError, SQLAlchemyError):
        # The database may be the part that is away.
        return False
    return True
