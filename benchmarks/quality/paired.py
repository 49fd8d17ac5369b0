"""Figures over seeds: a mean with its spread, and a paired difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, of shares, in points."""
    if not values:
        return ""
    spread = f" ± {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.2f}{spread}"


def gain(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Difference of shares paired by seed, in points, and where it lies 95 times of 100.

    Student's t over the seeds: other seeds would draw other images, train another generator and
    other classifiers, and be tested on the same test set.
    """
    each = 100 * (np.asarray(ours) - np.asarray(theirs))
    found = {"value": float(each.mean()), "per_seed": each.round(3).tolist()}
    if len(each) > 1:
        wide = student.ppf(0.5 + LEVEL / 2, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
        found |= {"low": float(each.mean() - wide), "high": float(each.mean() + wide)}
    return found


def in_words(found: dict[str, Any]) -> str:
    """A gain in words."""
    if "low" not in found:
        return f"{found['value']:+.2f}"
    return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"
