"""The gate: which candidates become images, and why the others do not."""

from __future__ import annotations

import numpy as np

from datagen.errors import InvalidRequest
from datagen.quality.training_index import TrainingIndex
from datagen.schemas import Gate

# Why a candidate is refused, by number; 0 is that it is not.
PASSED, SCORE, COPY = 0, 1, 2
# In the words of the API, in the same order; duplicates are found when all images are there.
REASONS = ("score", "copy", "duplicate")


def judged(
    gate: Gate,
    images: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    index: TrainingIndex | None,
) -> np.ndarray:
    """Why each candidate is refused, int64 (N,): PASSED, SCORE or COPY, the first that holds.

    Each is judged by itself, so that the answer does not depend on those beside it.

    Args:
        gate: what a candidate must pass.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        scores: the judge's probabilities of the labels, float64 (N,), rounded to 1e-4.
        index: what copies are known by; not looked at where the gate lets copies pass.

    Raises:
        InvalidRequest: copies are to be refused, and there is no index.
    """
    reasons = np.where(scores < gate.min_score, SCORE, PASSED)
    if gate.reject_copies:
        if index is None:
            raise InvalidRequest(
                "The model keeps no index of its training images to know copies by; set "
                "'reject_copies' to false.",
                field="gate.reject_copies",
            )
        left = np.flatnonzero(reasons == PASSED)
        reasons[left[index.copies(images[left], labels[left])]] = COPY
    return reasons
