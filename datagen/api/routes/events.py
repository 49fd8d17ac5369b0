"""A job's events, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.sse import EventSourceResponse

from datagen.api.auth import Reader, ScopedRoute
from datagen.api.backends import Wired
from datagen.api.events import REMOVED, Events
from datagen.api.openapi import problems
from datagen.db.session import reading
from datagen.schemas import ENDED, Job
from datagen.service import following

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=ScopedRoute)


def _event(kinds: Sequence[str], data: dict[str, Any]) -> dict[str, Any]:
    """The schema of an event of one of these kinds, as a listener gets it."""
    return {
        "type": "object",
        "required": ["event", "data", "id"],
        "properties": {
            "event": {"enum": kinds},
            "data": {"type": "string", **data},
            "id": {"type": "string", "pattern": "^[0-9]+$", "description": "The job's revision."},
        },
    }


# The framework describes the streams of generators alone, and by one kind of event.
EVENT_SCHEMA = {
    "oneOf": [
        _event(
            ["state", "progress"],
            {
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/Job"},
            },
        ),
        _event([REMOVED], {"const": "{}", "description": "The job is gone."}),
    ]
}


def _read(job_id: UUID, backends: Wired, asker: Reader) -> tuple[int, Job]:
    with reading(backends.engine) as session:
        return following.read(session, asker.owner_id, job_id)


def _events(request: Request) -> Events:
    found: Events = request.app.state.events
    return found


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        **problems(404),
        200: {
            "content": {"text/event-stream": {"itemSchema": EVENT_SCHEMA}},
            "description": "Events `state` and `progress`, each with the job as it then is, and "
            "its revision as the id; the stream ends with the job.",
        },
        204: {"description": "The job has ended, and the listener has seen that."},
    },
)
async def follow_job(
    job_id: UUID,
    asker: Reader,
    found: Annotated[tuple[int, Job], Depends(_read)],
    events: Annotated[Events, Depends(_events)],
    last_event_id: Annotated[
        str | None,
        Header(max_length=40, description="The last event that came, to go on after it."),
    ] = None,
) -> Response:
    """The job whenever it changes, as server-sent events; a comment every 15 seconds otherwise."""
    revision, job = found
    number = last_event_id or ""
    seen = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else -1  # noqa: PLR2004 - 64 bits
    if job.state in ENDED and seen >= revision:
        # A browser comes back to a stream that ended, until it is told that there is no more.
        return Response(status_code=204)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return EventSourceResponse(events.stream(asker, job_id, revision, job, seen), headers=headers)
