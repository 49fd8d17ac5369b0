"""The beat table: what is looked at again and again, so that nothing has to be remembered."""

from __future__ import annotations

from typing import Any

from datagen.queue import REQUEUE_STALE, RUN_DUE_PIPELINES, SWEEP_STORAGE
from datagen.settings import Settings

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
    return {"task": task, "schedule": seconds, "options": {"expires": expires}}
