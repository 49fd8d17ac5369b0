"""Durations as people write them: 90s, 15m, 12h, 30d."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([smhd])", re.ASCII)


def seconds_of(text: str) -> float | None:
    """Seconds, above 0; None where the text spells no duration."""
    found = _FORM.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    return seconds or None
