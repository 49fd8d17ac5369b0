"""Records of a run's steps: which one it is at, when each began and ended, what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from datagen.db.tables import Run
from datagen.schemas import STEPS, Step

WAITING, RUNNING = "waiting", "running"


def fresh() -> list[dict[str, Any]]:
    """The records of a run that has not begun."""
    return [{"name": name, "state": WAITING} for name in STEPS]


def current(run: Run) -> Mapping[str, Any] | None:
    """The first step that has not ended; None where all have."""
    return next((step for step in run.steps if step["state"] in {WAITING, RUNNING}), None)


def begin(run: Run, name: Step, moment: datetime) -> None:
    """A step begins."""
    _change(run, name, state=RUNNING, started_at=moment.isoformat(), ended_at=None)


def end(run: Run, name: Step, state: str, moment: datetime) -> None:
    """A step ends in this state; what was skipped never began."""
    times: dict[str, Any] = {"ended_at": moment.isoformat()}
    if state == "skipped":
        times = {"started_at": None, "ended_at": None}
    _change(run, name, state=state, **times)


def wait_again(run: Run, name: Step) -> None:
    """A step that failed waits to be tried again."""
    _change(run, name, state=WAITING)


def say(run: Run, name: Step, moment: datetime, text: str) -> None:
    """A line in the log of a step."""
    line = {"at": moment.isoformat(), "text": text}
    _change(run, name, log=[*_record(run, name).get("log", []), line])


def link(run: Run, name: Step, kind: str, row_id: UUID) -> None:
    """A step has made something, or takes it."""
    made = {"kind": kind, "id": str(row_id)}
    known = _record(run, name).get("links", [])
    if made not in known:
        _change(run, name, links=[*known, made])


def _record(run: Run, name: Step) -> Mapping[str, Any]:
    return next(step for step in run.steps if step["name"] == name)


def _change(run: Run, name: Step, **values: Any) -> None:
    # A new list: a change within the old one would not be noticed, and not be written.
    run.steps = [dict(step) | values if step["name"] == name else step for step in run.steps]
