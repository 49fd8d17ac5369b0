"""Durations as people write them: 90s, 15m, 1.5h, 30d."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# What a training may be given at most.
LONGEST_BUDGET = 30 * 86_400
# An estimate up to so many seconds is given in this unit, to so many seconds.
_ESTIMATES = (
    (120, "s", 10),
    (3600, "m", 60),
    (10 * 3600, "h", 360),
    (2 * 86_400, "h", 3600),
    (math.inf, "d", 43_200),
)
_FORM = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([smhd])", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Seconds, 0 or more; None where the text spells no duration."""
    found = _FORM.fullmatch(text.strip())
    # As floats, 1.1 hours would be 3960.0000000000005 seconds.
    return float(Decimal(found[1]) * _UNITS[found[2]]) if found else None


def seconds_of(text: str) -> float | None:
    """Seconds, above 0; None where the text spells no duration, or 0."""
    return parse_duration(text) or None


def spelled(seconds: float) -> str:
    """Seconds as people write them, in the largest unit that they are a whole number of."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:g}s"


def rounded_up(seconds: float) -> str:
    """Seconds as people estimate them, written as a duration: `90s`, `8m`, `1.9h`, `4.5d`."""
    unit, step = next((unit, step) for most, unit, step in _ESTIMATES if seconds <= most)
    return f"{step * math.ceil(seconds / step) / _UNITS[unit]:g}{unit}"
