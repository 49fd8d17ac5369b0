"""Runs of pipelines."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Wired
from datagen.api.openapi import problems
from datagen.db.session import reading, writing
from datagen.schemas import Run
from datagen.service import runs

router = APIRouter(prefix="/v1/runs", tags=["pipelines"], route_class=ScopedRoute)


@router.get("/{run_id}", summary="Read a run", responses=problems(404))
def read_run(run_id: UUID, backends: Wired, asker: Reader) -> Run:
    """The run as it is now: each step with its state, times, log and what it has made."""
    with reading(backends.engine) as session:
        return runs.read(session, asker.owner_id, run_id)


@router.post("/{run_id}/cancel", summary="Cancel a run", responses=problems(404, 409))
def cancel_run(run_id: UUID, backends: Wired, asker: Writer) -> Run:
    """Stop a run and the step that it is at; what it has made by then stays."""
    with writing(backends.engine) as session:
        run, messages = runs.cancel(session, backends.settings, asker.owner_id, run_id)
    backends.send(messages)
    return run
