"""Whether the process lives, and whether the parts that it needs answer. No key is asked for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from datagen.api.backends import Wired
from datagen.api.readiness import look_at_parts
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
    """Looks at database, schema, storage and broker, each for two seconds at most."""
    found = await look_at_parts(backends, request.app.state.looks)
    answer.status_code = 200 if found.ready else 503
    return found
