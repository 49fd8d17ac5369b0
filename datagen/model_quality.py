"""How good a model is: what its training measured, beside what real images reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard, cast

from datagen.durations import spelled

# Where metrics and progress of a training hold sentences about it for its user.
NOTES = "notes"


class QualityRow(NamedTuple):
    """One figure of a model.

    Attributes:
        name: what was measured.
        generated: of generated images, as text.
        real: the same of real images, as text; empty where there is no such figure.
        chance: what guessing reaches, as text; empty where there is no such figure.
        meaning: in a sentence.
    """

    name: str
    generated: str
    real: str
    chance: str
    meaning: str


_AGREEMENT = "How often the judge sees the label that was requested, without a gate."
_TSTR = (
    "Train on synthetic, test on real: balanced accuracy on held-out images of a classifier that "
    "has learnt from generated images alone, of those that pass the recommended gate, and from "
    "real ones."
)
_COVERAGE = (
    "Share of held-out images that have a generated image nearby, without a gate, and a training "
    "image."
)
_RECONSTRUCTION = (
    "Mean difference between held-out images and their reconstructions, as a share of the range of "
    "a pixel."
)
_ROWS = (
    ("label agreement", "judge_agreement", "judge_test_accuracy", _AGREEMENT),
    ("TSTR", "tstr", "trtr", _TSTR),
    ("coverage", "coverage", "coverage_of_real", _COVERAGE),
    ("reconstruction error", "reconstruction_error", None, _RECONSTRUCTION),
)
# Shares of labels that are right, of which guessing gets some right too.
_GUESSED = frozenset({"judge_agreement", "tstr"})
MEASURES = frozenset(name for row in _ROWS for name in row[1:3] if name is not None) | {"chance"}
# A training that took so many times its time budget says so.
_OVERRUN = 1.1


def quality_rows(metrics: Mapping[str, Any]) -> list[QualityRow]:
    """The figures that a training has measured, in the order of what matters most."""
    return [
        QualityRow(
            name,
            _share(metrics.get(own)),
            _share(metrics.get(real or "")),
            _share(metrics.get("chance")) if own in _GUESSED else "",
            meaning,
        )
        for name, own, real, meaning in _ROWS
        if _is_figure(metrics.get(own))
    ]


def training_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences for its user about a training, of its metrics or of its progress."""
    found = metrics.get(NOTES)
    # A file that somebody else wrote may hold anything.
    return [note for note in found if isinstance(note, str)] if isinstance(found, list) else []


def overrun(seconds: float, options: Mapping[str, Any]) -> list[str]:
    """A sentence on a training that took longer than its time budget; [] where it did not."""
    budget = options.get("time_budget")
    if not isinstance(budget, float) or _OVERRUN * budget >= seconds:
        return []
    more = f"{seconds / budget - 1:.0%} more than its time budget of {spelled(budget)}"
    return [f"The training took {seconds:,.0f} seconds, {more}."]


def _share(value: object) -> str:
    return f"{value:.1%}" if _is_figure(value) else ""


def _is_figure(value: object) -> TypeGuard[float]:
    """Whether a file, which somebody else may have written, has a share here."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= cast("float", value) <= 1
