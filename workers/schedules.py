"""The beat table: what is looked at again and again, so that nothing has to be remembered."""

from __future__ import annotations

from typing import Any

from datagen.queue import REQUEUE_STALE, SWEEP_STORAGE
from datagen.settings import Settings

LONGEST_SWEEP_SECONDS = 3600.0
# Messages older than this are dropped: while no worker runs they would only pile up.
SHORTEST_EXPIRY_SECONDS = 10.0


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Beat's entries: each message expires before long, because the next says the same."""
    return {
        "requeue-stale": _entry(REQUEUE_STALE, settings.tick_seconds),
        "sweep-storage": _entry(SWEEP_STORAGE, min(settings.sweep_seconds, LONGEST_SWEEP_SECONDS)),
    }


def _entry(task: str, seconds: float) -> dict[str, Any]:
    expires = max(2 * seconds, SHORTEST_EXPIRY_SECONDS)
    return {"task": task, "schedule": seconds, "options": {"expires": expires}}
