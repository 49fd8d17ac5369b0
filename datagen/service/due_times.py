"""Due times: when a schedule asks for a run, in UTC.

A cron's fields are the local time of its zone. Where clocks go forward, a time that does not exist
is due once, as soon as the gap is over; where they go back, a time that comes twice is due once,
the first time. Fields that begin with `*` in minute or hour mean stretches of real time, and follow
them: hourly runs come 23 or 25 times on such days (as Debian's cron has it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from datagen.errors import InvalidRequest
from datagen.schemas import Schedule

# Due times that are looked at to see how close they come: a leap year of days, and more.
LOOKED_AT = 500
FIELDS = 5
# No clock is changed by more, but for whole days that a country leaves out.
LONGEST_CHANGE = timedelta(hours=3)
# Intervals are counted from here where they have no start, so that no restart shifts them.
_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)


def check(schedule: Schedule, moment: datetime, shortest: float) -> None:
    """Refuse a schedule that cannot be, or that asks too often.

    Args:
        schedule: what somebody wrote.
        moment: now.
        shortest: seconds that must lie between two due times.

    Raises:
        InvalidRequest: an unknown zone, no cron, one that never fires, or one that fires too often.
    """
    zone_of(schedule)
    if schedule.every is not None and schedule.every < max(shortest, 1):
        raise InvalidRequest(
            f"'every' is {schedule.every} s, and {shortest:g} s must lie between two runs.",
            field="schedule.every",
        )
    if schedule.cron is None:
        return
    if len(schedule.cron.split()) != FIELDS:
        raise InvalidRequest(
            f"The cron {schedule.cron!r} has {len(schedule.cron.split())} fields; write minute, "
            "hour, day of month, month and day of week.",
            field="schedule.cron",
        )
    try:
        times = list(islice(_cron(schedule, moment), LOOKED_AT))
    except CronSimError as error:
        raise InvalidRequest(
            f"The cron {schedule.cron!r} cannot be read: {error}.", field="schedule.cron"
        ) from None
    if not times:
        raise InvalidRequest(
            f"The cron {schedule.cron!r} never fires; no such day comes.", field="schedule.cron"
        )
    closest = min(((b - a).total_seconds() for a, b in pairwise(times)), default=shortest)
    if closest < shortest:
        raise InvalidRequest(
            f"The cron {schedule.cron!r} fires every {closest:g} s, and {shortest:g} s must lie "
            "between two runs.",
            field="schedule.cron",
        )


def zone_of(schedule: Schedule) -> ZoneInfo:
    """The zone that a schedule names. Raises InvalidRequest."""
    try:
        return ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(
            f"There is no time zone {schedule.timezone[:60]!r}; name one of the IANA's, such as "
            "Europe/Berlin.",
            field="schedule.timezone",
        ) from None


def due_times(schedule: Schedule, after: datetime, pipeline_id: UUID) -> Iterator[datetime]:
    """The due times after a moment, in UTC, each later than the one before.

    Args:
        schedule: one that `check` lets pass.
        after: the last moment that is over.
        pipeline_id: whose jitter it is.
    """
    if schedule.cron is None and schedule.every is None:
        return
    late = timedelta(seconds=_late(schedule, pipeline_id))
    start = after - late
    if schedule.start is not None:
        # The start itself is a time of `every`, and may be one of a cron.
        start = max(start, schedule.start - timedelta(microseconds=1))
    times = _cron(schedule, start) if schedule.cron is not None else _every(schedule, start)
    for time in times:
        if schedule.end is not None and time > schedule.end:
            return
        try:
            due = time + late
        except OverflowError:
            return
        yield due


def last_due(schedule: Schedule, moment: datetime, pipeline_id: UUID) -> datetime | None:
    """The latest due time that is not after a moment; None where there was none."""
    try:
        return _last_due(schedule, moment, pipeline_id)
    except (OverflowError, ValueError):
        # It would lie before the calendar begins.
        return None


def _last_due(schedule: Schedule, moment: datetime, pipeline_id: UUID) -> datetime | None:
    late = timedelta(seconds=_late(schedule, pipeline_id))
    until = moment - late
    if schedule.end is not None:
        until = min(until, schedule.end)
    if schedule.every is not None:
        step = timedelta(seconds=schedule.every)
        origin = schedule.start or _ORIGIN
        found = origin + (until - origin) // step * step
    elif schedule.cron is not None:
        last = _last_of_cron(schedule, until)
        if last is None:
            return None
        found = last
    else:
        return None
    if schedule.start is not None and found < schedule.start:
        return None
    return found.astimezone(UTC) + late


def _last_of_cron(schedule: Schedule, until: datetime) -> datetime | None:
    """The last time of a cron that is not after a moment.

    Backwards the library finds times near a change of clocks that forwards it does not have, so
    what it finds is only where to look from.
    """
    start = until + timedelta(seconds=1)
    for _ in range(LOOKED_AT):
        local = start.astimezone(zone_of(schedule))
        before = next(CronSim(schedule.cron or "", local, reverse=True), None)
        if before is None:
            return None
        start = before.astimezone(UTC) - LONGEST_CHANGE
        times = list(takewhile(lambda time: time <= until, _cron(schedule, start)))
        if times:
            return times[-1]
    return None


def _every(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    step = timedelta(seconds=schedule.every or 0)
    origin = schedule.start or _ORIGIN
    count = max(0, (after - origin) // step + 1)
    while True:
        try:
            time = (origin + count * step).astimezone(UTC)
        except OverflowError:
            # The calendar ends before it.
            return
        yield time
        count += 1


def _cron(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Due times of a cron; none where it never fires. Raises CronSimError."""
    last = after.astimezone(UTC)
    times = CronSim(schedule.cron or "", after.astimezone(zone_of(schedule)))
    while True:
        try:
            moment = next(times).astimezone(UTC)
        except (StopIteration, OverflowError, ValueError):
            # No such day comes, or none before the calendar ends.
            return
        if moment > last:
            yield moment
            last = moment


def _late(schedule: Schedule, pipeline_id: UUID) -> int:
    """Seconds of jitter, the same for all runs of a pipeline."""
    if not schedule.jitter:
        return 0
    digest = hashlib.sha256(b"datagen/jitter/" + pipeline_id.bytes).digest()
    return int.from_bytes(digest[:8]) % (schedule.jitter + 1)
