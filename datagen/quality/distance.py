"""Distances of two sets of features: Fréchet's, and the kernel's, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

# Sets that the interval of Fréchet's distance is drawn from.
RESAMPLED = 20
# Images in a block of the kernel's, where there are enough for so many blocks.
BLOCK_SIZE, FEWEST_BLOCKS, FEWEST = 1000, 8, 2
LEVEL = 95.0


@dataclass(frozen=True)
class Measured:
    """A figure, and where it lies 95 times of 100."""

    value: float
    low: float
    high: float


def frechet_distance(one: np.ndarray, two: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared Fréchet distance of two normals.

    In float64, by eigenvalues: the trace of the root of C1 C2 is the sum of the roots of the
    eigenvalues of R C2 R with R the root of C1, which is symmetric and has none below zero but for
    rounding. Source: Dowson and Landau, 1982; for images Heusel et al., 2017.

    Args:
        one: features (N, F).
        two: features (M, F).
    """
    first, second = one.astype(np.float64), two.astype(np.float64)
    apart = first.mean(axis=0) - second.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(first, rowvar=False)))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    other = np.atleast_2d(np.cov(second, rowvar=False))
    inner = np.linalg.eigvalsh(root @ other @ root)
    cross = np.sqrt(np.maximum(inner, 0.0)).sum()
    return float(apart @ apart + values.sum() + np.trace(other) - 2.0 * cross)


def kernel_distance(one: np.ndarray, two: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy, with the kernel (x.y / F + 1)^3.

    Zero on average for two sets of one distribution, whatever their sizes; a single figure may be
    below. Source: Binkowski et al., 2018.

    Args:
        one: features (N, F), N at least 2.
        two: features (M, F), M at least 2.
    """
    first, second = one.astype(np.float64), two.astype(np.float64)
    dims = first.shape[1]

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        values: np.ndarray = (left @ right.T / dims + 1.0) ** 3
        return values

    def within(features: np.ndarray) -> float:
        values, count = kernel(features, features), len(features)
        return float((values.sum() - np.trace(values)) / (count * (count - 1)))

    return within(first) + within(second) - 2.0 * float(kernel(first, second).mean())


def frechet(one: np.ndarray, two: np.ndarray, seed: int = 0) -> Measured:
    """The Fréchet distance, with an interval from sets drawn again with replacement.

    Such sets lie further apart than the given ones, as smaller sets do; the interval is moved back
    by that much.
    """
    random = np.random.default_rng(seed)
    value = frechet_distance(one, two)
    drawn = [
        frechet_distance(
            one[random.integers(0, len(one), len(one))], two[random.integers(0, len(two), len(two))]
        )
        for _ in range(RESAMPLED)
    ]
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2]) - np.mean(drawn)
    return Measured(value, max(0.0, value + float(low)), value + float(high))


def kernel(one: np.ndarray, two: np.ndarray, seed: int = 0) -> Measured:
    """The kernel distance: the mean over blocks of both sets, and that mean's interval.

    The blocks share no image, so that their spread tells how sure the mean is; the figure itself
    does not depend on their size but by chance.
    """
    random = np.random.default_rng(seed)
    least = min(len(one), len(two))
    blocks = max(1, min(least // FEWEST, max(FEWEST_BLOCKS, least // BLOCK_SIZE)))
    pairs = zip(
        np.array_split(random.permutation(len(one)), blocks),
        np.array_split(random.permutation(len(two)), blocks),
        strict=True,
    )
    found = [kernel_distance(one[left], two[right]) for left, right in pairs]
    mean = float(np.mean(found))
    if blocks == 1:
        return Measured(mean, float("nan"), float("nan"))
    wide = float(student.ppf(0.5 + LEVEL / 200, blocks - 1)) * float(np.std(found, ddof=1))
    return Measured(mean, mean - wide / blocks**0.5, mean + wide / blocks**0.5)
