from __future__ import annotations

import pytest
from pydantic import ValidationError

from datagen.durations import rounded_up, seconds_of, spelled
from datagen.schemas import PipelineApply, TrainingOptionsIn
from datagen.settings import Settings

SPELT = {
    "90s": 90,
    "15m": 900,
    "1.5h": 5400,
    "1.1h": 3960,
    " 12h ": 43_200,
    "0.5d": 43_200,
    "7d": 604_800,
}
NONE = [
    "",
    "h",
    "90",
    "1,5h",
    "1.h",
    ".5h",
    "-1h",
    "1h30m",
    "1.5 h",
    "1H",
    "1w",
    "\u0661h",
    "1e3s",
    "inf s",
]


def every(text):
    recipe = {"name": "n", "source": {"dataset": "d"}, "model": "m", "plan": {"fill": 1}}
    schedule = {"every": "1h", "jitter": text} if text == "0s" else {"every": text}
    return PipelineApply.model_validate(recipe | {"schedule": schedule}).schedule


@pytest.mark.parametrize("text", SPELT)
def test_duration_is_one_wherever_it_is_written(text):
    assert seconds_of(text) == SPELT[text]
    assert every(text).every == SPELT[text]
    assert Settings(export_ttl=text).export_ttl == SPELT[text]
    assert TrainingOptionsIn(time_budget=text).time_budget == SPELT[text]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_duration_is_none_anywhere(text):
    assert seconds_of(text) is None
    with pytest.raises(ValidationError, match=r"1\.5h"):
        every(text)


def test_no_time_at_all_is_a_jitter_and_no_time_limit():
    assert seconds_of("0s") is None
    assert every("0s").jitter == 0


def test_parts_of_a_second_are_refused_where_seconds_are_whole():
    assert seconds_of("0.5s") == 0.5
    with pytest.raises(ValidationError, match="whole seconds"):
        every("1.0001s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5s"), (90.0, "90s"), (150, "150s"), (600, "10m"), (5400, "90m"), (86_400, "1d")],
)
def test_durations_are_spelled_in_the_largest_unit_that_fits(seconds, text):
    assert spelled(seconds) == text
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (4.0, "10s"),
        (120.0, "120s"),
        (121.0, "3m"),
        (3600.0, "60m"),
        (3601.0, "1.1h"),
        (6_900.0, "2h"),
        (10.5 * 3600, "11h"),
        (48.1 * 3600, "2.5d"),
        (202 * 3600.0, "8.5d"),
    ],
)
def test_estimates_are_rounded_up_and_read_back_as_durations(seconds, written):
    assert rounded_up(seconds) == written
    assert seconds_of(written) >= seconds
