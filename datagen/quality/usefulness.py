"""Usefulness: whether a classifier that also learns from synthetic images sees real ones better.

Every arm of a comparison takes the same number of steps. For each seed the arms are compared on the
same held-out images; what is reported is their difference, and how sure it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Of one arm's balanced accuracy to another's.

    Attributes:
        value: the mean over the seeds.
        low, high: where it lies 95 times of 100; NaN where that cannot be told.
        per_seed: one a seed.
    """

    value: float
    low: float
    high: float
    per_seed: tuple[float, ...]


def balanced_accuracy(right: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the labels that are there of the share that is right, bool (N,)."""
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def difference(
    arm: Sequence[np.ndarray], base: Sequence[np.ndarray], labels: np.ndarray
) -> Difference:
    """How much better an arm is than its base, paired by seed and by image.

    Two things are left to chance: the seeds, and which images were held out. The interval has both:
    of the seeds, the variance of their differences over their number, with Student's t for so few;
    of the images, for each class the variance of their differences, averaged over the seeds, as if
    one more image had been gained and one lost by half (Agresti and Min, 2005), without which a
    handful of images that no arm gets wrong would look like certainty.

    Args:
        arm: for each seed, which of the held-out images were right, bool (N,).
        base: the same for what it is compared with, in the order of the same seeds.
        labels: of the held-out images, int64 (N,).
    """
    gains = np.stack(
        [mine.astype(np.float64) - other for mine, other in zip(arm, base, strict=True)]
    )  # (S, N)
    classes = np.unique(labels)
    per_seed = np.mean([gains[:, labels == label].mean(axis=1) for label in classes], axis=0)
    seeds = len(per_seed)
    value = float(per_seed.mean())
    if seeds < 2:  # noqa: PLR2004 - one seed tells nothing of the others
        return Difference(value, float("nan"), float("nan"), tuple(per_seed.tolist()))
    of_seeds = float(per_seed.var(ddof=1)) / seeds
    each = gains.mean(axis=0)
    spread = [float(each[labels == label].var()) for label in classes]
    counts = [int((labels == label).sum()) for label in classes]
    of_images = sum((n * own + 1.0) / (n + 2.0) ** 2 for n, own in zip(counts, spread, strict=True))
    of_images /= len(classes) ** 2
    few, many = student.ppf(0.5 + LEVEL / 2, seeds - 1), normal.ppf(0.5 + LEVEL / 2)
    wide = float(few**2 * of_seeds + many**2 * of_images) ** 0.5
    return Difference(value, value - wide, value + wide, tuple(per_seed.tolist()))
