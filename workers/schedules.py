"""The beat table: what is looked at again and again, so that nothing has to be remembered."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import schedule

from datagen.queue import REQUEUE_STALE, RUN_DUE_PIPELINES, SWEEP_STORAGE
from datagen.settings import Settings

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# A run waits so long at most between two of its steps; an empty look costs milliseconds.
PIPELINE_TICK_SECONDS = 2.0
LONGEST_SWEEP_SECONDS = 3600.0
# Messages older than this are dropped: while no worker runs they would only pile up.
SHORTEST_EXPIRY_SECONDS = 10.0


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Beat's entries: each message expires before long, because the next says the same."""
    return {
        "requeue-stale": _entry(REQUEUE_STALE, settings.tick_seconds),
        "run-due-pipelines": _entry(
            RUN_DUE_PIPELINES, min(settings.tick_seconds, PIPELINE_TICK_SECONDS)
        ),
        "sweep-storage": _entry(SWEEP_STORAGE, min(settings.sweep_seconds, LONGEST_SWEEP_SECONDS)),
    }


def _entry(task: str, seconds: float) -> dict[str, Any]:
    expires = max(2 * seconds, SHORTEST_EXPIRY_SECONDS)
    every = schedule(timedelta(seconds=seconds), nowfun=steady_now)
    return {"task": task, "schedule": every, "options": {"expires": expires}}


def steady_now() -> datetime:
    """A time that goes on evenly, whatever the machine's clock is set to.

    By the wall clock beat would be silent for a day after that was set back by a day.
    """
    return _EPOCH + timedelta(seconds=time.monotonic())
