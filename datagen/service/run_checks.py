"""Checks of a run: what its report must have found for anything to be delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datagen.errors import InvalidRequest
from datagen.schemas import Checks


class CheckFailed(InvalidRequest):
    """The images are not what the recipe asks for; another try would find the same."""

    slug = "check-failed"
    title = "The images are not what was asked for"


def apply(checks: Checks, report: Mapping[str, Any]) -> list[str]:
    """What was found, in words.

    Args:
        checks: what must be found.
        report: `report.json`, as read.

    Raises:
        CheckFailed: something else was found, or it could not be computed.
    """
    found = list(_compared(checks, report))
    wrong = [text for text, passed in found if not passed]
    if wrong:
        raise CheckFailed(
            f"The checks are not passed, and nothing is delivered: {'; '.join(wrong)}."
        )
    return [f"{text}: passed." for text, _ in found]


def _compared(checks: Checks, report: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    if (least := checks.min_fidelity) is not None:
        value = _found(report, "fidelity", "balanced")
        yield (
            f"fidelity {_formatted(value)}, at least {least:g}",
            value is not None and value >= least,
        )
    if (most := checks.max_copies) is not None:
        value = _found(report, "copying", "copy_rate")
        yield f"copies {_formatted(value)}, at most {most:g}", value is not None and value <= most
    if (needed := checks.usefulness) is not None:
        outcome = report["verdict"]["outcome"]
        passed = outcome == "helps" if needed == "helps" else outcome != "hurts"
        words = "must help" if needed == "helps" else "must not hurt"
        yield f"usefulness {outcome.replace('_', ' ')}, it {words}", passed


def _found(report: Mapping[str, Any], part: str, name: str) -> float | None:
    value = (report.get(part) or {}).get(name)
    return None if value is None else float(value)


def _formatted(value: float | None) -> str:
    return "could not be computed" if value is None else f"{value:.4g}"
