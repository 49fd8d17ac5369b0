from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from datagen.queue import QUEUE_OF
from datagen.settings import Settings
from workers.schedules import beat_schedule


def test_stale_work_is_looked_for_at_every_tick() -> None:
    assert beat_schedule(Settings(tick_seconds=2.5))["requeue-stale"]["schedule"].seconds == 2.5


def test_storage_is_swept_at_least_hourly() -> None:
    assert (
        beat_schedule(Settings(sweep_seconds=86_400))["sweep-storage"]["schedule"].seconds == 3600
    )


def test_every_entry_names_a_task_and_expires() -> None:
    for entry in beat_schedule(Settings()).values():
        assert entry["task"] in QUEUE_OF
        assert entry["options"]["expires"] >= entry["schedule"].seconds


def test_entries_are_due_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    every = beat_schedule(Settings(tick_seconds=2.5))["requeue-stale"]["schedule"]
    began = every.now()
    assert began.year < datetime.now(UTC).year, "counted from the machine's start, not its clock"
    later = time.monotonic() + 3
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert every.now() - began >= timedelta(seconds=3)
    assert every.is_due(began).is_due
