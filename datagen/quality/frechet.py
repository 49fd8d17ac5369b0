"""Fréchet distance of two sets of features, as normals."""

from __future__ import annotations

import numpy as np


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
