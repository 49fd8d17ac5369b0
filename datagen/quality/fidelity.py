"""Label fidelity: whether images show what their labels say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fidelity:
    """What a classifier makes of labelled images.

    Attributes:
        confusion: images of each label (rows) by what the classifier takes them for, int64 (K, K).
        agreement: share of all that it takes for their label.
        per_class: the same for each label, float (K,); NaN where there is no image of it.
        balanced: mean of that over the labels that have images.
    """

    confusion: np.ndarray
    agreement: float
    per_class: np.ndarray
    balanced: float


def fidelity(labels: np.ndarray, found: np.ndarray, class_count: int) -> Fidelity:
    """Compare labels int64 (N,), N at least 1, with a classifier's, int64 (N,)."""
    confusion = np.zeros((class_count, class_count), dtype=np.int64)
    np.add.at(confusion, (labels, found), 1)
    counts = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        per_class = np.diag(confusion) / counts
    return Fidelity(
        confusion=confusion,
        agreement=float(np.diag(confusion).sum() / counts.sum()),
        per_class=per_class,
        balanced=float(np.nanmean(per_class)),
    )


def share_interval(right: float, count: float) -> tuple[float, float]:
    """Where a share lies 95 times of 100 (Wilson, 1927), of `count` images."""
    z = 1.96
    middle = (right + z * z / (2 * count)) / (1 + z * z / count)
    wide = z / (1 + z * z / count)
    wide *= (right * (1 - right) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, middle - wide), min(1.0, middle + wide)
