"""Odd values: text of any code point, numbers and moments at their edges, deep nesting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\x00", "a\x00b", "\ud800", "a\udfffb", "\ud83d", "\U0010ffff", "\ufffe", "\ufeff",
    "\u202e", "e\u0301", "\u00e9", "\u0663", "\u2028", "\r\n", "\x1b[0m", "\x7f", "'", '"', "\\",
    "%00", "%", "..", "../..", "/", "a/b", "?", "#", "{run}", "{", "null", "true", "NaN", "-1",
    "0", "a" * 65, "a" * 5000, "mnist@0", "mnist@99999999999999999999", "mnist@-1", "@", "@1",
    "*", "<b>", "9" * 400,
)  # fmt: skip
ODD_NUMBERS = (
    0, -0.0, 1, -1, 2, 0.5, 1.0, 1.5, 1e-320, 5e-324, 1e308, -1e308, float("inf"), float("-inf"),
    float("nan"), 127, 128, 255, 256, 1023, 1024, 1025, 2**15, 2**31 - 1, 2**31, -(2**31) - 1,
    2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30,
    10**400, 1e16,
)  # fmt: skip
ODD_MOMENTS = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00-23:59",
    "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59+23:59",
    "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "2038-01-19T03:14:08Z", "2000-01-01",
    "2024-02-29T00:00:00+14:00", "2023-02-29T00:00:00Z", "2016-12-31T23:59:60Z",
    "2024-06-01T24:00:00Z", "2024-06-01T12:00:00", "2024-06-01T12:00:00+24:00", "0000-01-01",
    "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "1e18", "253402300799", "253402300800",
    "-62135596800", "-62135596801", "now", "2024-06-01t12:00:00z",
)  # fmt: skip
ODD_OTHERS = (None, True, False, [], {}, [None], [[]], {"": ""}, {"a": {"a": None}})
# Deeper than what reads JSON may follow, and harmless to whatever reads it.
NESTED = (2, 20, 120, 300)

any_text = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.text(st.characters(categories=["Cs", "Cc", "Co", "Cn", "Zl", "Mn"]), max_size=6),
)
any_number = st.one_of(
    st.sampled_from(ODD_NUMBERS),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
)


def _moment(moment: datetime, minutes: int) -> str:
    zone = timezone(timedelta(minutes=minutes))
    return moment.replace(tzinfo=UTC if minutes == 0 else zone).isoformat()


any_moment = st.one_of(
    st.sampled_from(ODD_MOMENTS),
    st.builds(_moment, st.datetimes(), st.integers(-1439, 1439)),
)


def nested(depth: int, *, mapping: bool) -> Any:
    """Lists or objects in each other, so many deep."""
    found: Any = 1
    for _ in range(depth):
        found = {"a": found} if mapping else [found]
    return found


deep = st.builds(nested, st.sampled_from(NESTED), mapping=st.booleans())
anything = st.one_of(any_text, any_number, any_moment, st.sampled_from(ODD_OTHERS), deep)
