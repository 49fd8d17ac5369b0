"""Due times, beside another library's own iteration, and on the days when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import InvalidRequest
from datagen.schemas import Schedule
from datagen.service.due_times import check, due_times, last_due

PIPELINE = UUID("01a217e6-6719-7dc2-8ca7-3f2ac5bd00ee")
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
)  # fmt: skip


def times(schedule, after, count):
    return list(islice(due_times(schedule, after, PIPELINE), count))


def cron(text, zone="UTC", **more):
    return Schedule(cron=text, timezone=zone, **more)


def berlin(*parts):
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def field(low, high):
    number = st.integers(low, high)
    # From a number to itself, croniter takes for all numbers.
    pair = st.tuples(number, number).filter(lambda ab: ab[0] != ab[1])
    stretch = pair.map(lambda ab: f"{min(ab)}-{max(ab)}")
    step = st.sampled_from([2, 3, 5, 7]).map(lambda n: f"*/{n}")
    several = st.lists(number, min_size=1, max_size=3, unique=True)
    return st.one_of(
        st.just("*"), number.map(str), stretch, step,
        several.map(lambda ns: ",".join(map(str, sorted(ns)))),
    )  # fmt: skip


@st.composite
def crons(draw):
    minute = str(draw(st.integers(0, 59)))
    return f"{minute} {draw(field(0, 23))} {draw(field(1, 28))} {draw(field(1, 12))} *"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    text=crons(),
    zone=st.sampled_from(ZONES),
    after=st.integers(1_577_836_800, 2_082_758_400),  # from 2020 to 2036
)
def test_due_times_are_those_of_another_library(text, zone, after):
    """Over zones and years; but for the days of the change, on which croniter goes its own way."""
    local = ZoneInfo(zone)
    start = datetime.fromtimestamp(after, local)
    found = times(cron(text, zone), start, 8)
    theirs, wanted = croniter(text, start), []
    while len(wanted) < len(found) + 3 and len(wanted) < 40:
        wanted.append(theirs.get_next(datetime).astimezone(UTC))

    def steady(moment):
        around = [(moment + timedelta(hours=h)).astimezone(local).utcoffset() for h in (-26, 26)]
        return around[0] == around[1]

    horizon = min(found[-1], wanted[-1]) if found else wanted[-1]
    ours = {m for m in found if steady(m) and m <= horizon}
    assert ours == {m for m in wanted if steady(m) and m <= horizon}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "text", ["0 2 * * *", "30 2 * * *", "30 1 * * *", "15 */3 * * *", "0 0 * * 1"]
)
def test_due_times_rise_and_none_comes_twice(text, zone):
    found = times(cron(text, zone), datetime(2025, 1, 1, tzinfo=UTC), 900)
    assert all(b > a for a, b in pairwise(found))
    assert len(set(found)) == 900


def test_time_that_does_not_exist_is_due_once_when_the_gap_is_over():
    found = times(cron("30 2 * * *", "Europe/Berlin"), berlin(2027, 3, 27, 0, 0), 3)
    assert found == [
        berlin(2027, 3, 27, 2, 30), berlin(2027, 3, 28, 3, 0), berlin(2027, 3, 29, 2, 30),
    ]  # fmt: skip


def test_time_that_comes_twice_is_due_once_the_first_time():
    found = times(cron("30 2 * * *", "Europe/Berlin"), berlin(2027, 10, 30, 0, 0), 3)
    assert found == [
        berlin(2027, 10, 30, 2, 30),
        datetime(2027, 10, 31, 0, 30, tzinfo=UTC),
        berlin(2027, 11, 1, 2, 30),
    ]


def test_hourly_runs_follow_real_time_through_both_changes():
    for day, count in (((2027, 3, 28), 23), ((2027, 10, 31), 25), ((2027, 6, 1), 24)):
        begin = berlin(*day)
        midnight = (begin.astimezone(ZoneInfo("Europe/Berlin")) + timedelta(days=1)).replace(fold=0)
        found = times(cron("0 * * * *", "Europe/Berlin"), begin - timedelta(seconds=1), 60)
        assert sum(m < midnight.astimezone(UTC) for m in found) == count, day


def test_every_counts_from_its_start_and_ends_at_its_end():
    start = datetime(2026, 12, 1, 6, tzinfo=UTC)
    schedule = Schedule(every="6h", start=start, end=start + timedelta(hours=12))
    assert times(schedule, NOW, 9) == [start + timedelta(hours=h) for h in (0, 6, 12)]
    assert times(schedule, start, 1) == [start + timedelta(hours=6)]
    anchored = Schedule(every="1h")
    assert times(anchored, NOW, 1) == times(anchored, NOW + timedelta(minutes=59), 1)


def test_jitter_is_the_pipelines_own_and_the_same_each_time():
    schedule = cron("0 2 * * *", jitter="30m")
    found = times(schedule, NOW, 3)
    late = [moment - moment.replace(hour=2, minute=0, second=0) for moment in found]
    assert len(set(late)) == 1
    assert timedelta(0) <= late[0] <= timedelta(minutes=30)
    # None is lost between the plain time and the late one.
    assert times(schedule, found[0] - timedelta(seconds=1), 1) == [found[0]]
    other = next(due_times(schedule, NOW, UUID(int=1)))
    assert other != found[0]


def test_schedule_by_the_dataset_has_no_due_times():
    assert times(Schedule(on_dataset=True), NOW, 1) == []


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (cron("0 0 31 2 *"), "cannot be read|never fires"),
        (cron("* * * * *"), "every 60 s, and 300 s must"),
        (cron("0,2 3 * * *"), "every 120 s"),
        (cron("* * * * * *"), "6 fields"),
        (cron("61 * * * *"), "cannot be read: Bad minute"),
        (cron("@daily"), "1 fields"),
        (cron("0 2 * * *", "Mars/Olympus"), "no time zone 'Mars/Olympus'"),
        (cron("0 2 * * *", "../etc/passwd"), "no time zone"),
        (Schedule(every=10), "'every' is 10 s, and 300 s"),
    ],
)  # fmt: skip
def test_schedule_that_cannot_be_is_refused(schedule, words):
    with pytest.raises(InvalidRequest, match=words):
        check(schedule, NOW, 300)


def test_either_day_counts_where_neither_begins_with_a_star():
    """No 30th of February, but its Mondays."""
    schedule = cron("0 0 30 2 1")
    check(schedule, NOW, 300)
    assert {(day.month, day.weekday()) for day in times(schedule, NOW, 8)} == {(2, 0)}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    text=crons(),
    zone=st.sampled_from(ZONES),
    after=st.integers(1_577_836_800, 2_082_758_400),
)
def test_last_due_time_is_the_one_before_the_next(text, zone, after):
    schedule, start = cron(text, zone), datetime.fromtimestamp(after, UTC)
    found = times(schedule, start, 3)
    for earlier, later in pairwise(found):
        assert last_due(schedule, earlier, PIPELINE) == earlier
        assert last_due(schedule, later - timedelta(seconds=1), PIPELINE) == earlier


def test_last_due_time_where_clocks_change_by_half_an_hour():
    schedule = cron("0 */2 * */3 *", "Australia/Lord_Howe")
    found = times(schedule, datetime(2035, 3, 30, tzinfo=UTC), 40)
    for earlier, later in pairwise(found):
        assert last_due(schedule, later - timedelta(seconds=1), PIPELINE) == earlier


def test_last_due_time_of_an_interval_lies_between_its_start_and_its_end():
    start = datetime(2026, 12, 1, 6, tzinfo=UTC)
    schedule = Schedule(every="6h", start=start, end=start + timedelta(hours=12))
    assert last_due(schedule, NOW, PIPELINE) is None
    assert last_due(schedule, start, PIPELINE) == start
    assert last_due(schedule, start + timedelta(hours=99), PIPELINE) == start + timedelta(hours=12)
    assert last_due(Schedule(on_dataset=True), NOW, PIPELINE) is None
