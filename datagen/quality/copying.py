"""Copying: how near generated images come to those that were learnt from, and to each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from datagen.quality.prdc import nearest_neighbours
from datagen.quality.training_index import TrainingIndex, code_distances

SHOWN_PAIRS = 10


@dataclass(frozen=True)
class Copying:
    """What was found.

    Attributes:
        nearest: distance of each generated image to its nearest training image, in features, (N,).
        held_out: the same of real images that were not learnt from, (M,).
        authenticity: share of images that are further from their nearest training image than that
            is from its own nearest (Alaa et al., 2022).
        copying_z: for each class, and -1 for all, the z of C_T; far below 0 is copying, far above
            is a lack of resemblance. None where there are too few images.
        copies: images that the training index calls copies, bool (N,).
        exact_duplicates: images whose very pixels a lower number has, bool (N,).
        near_duplicates: images as near to a lower number of their class as copies are, bool (N,).
        pairs: the closest pairs, closest first: number of the image, row of the training image,
            and their distance in the index's units.
    """

    nearest: np.ndarray
    held_out: np.ndarray
    authenticity: float
    copying_z: dict[int, float | None]
    copies: np.ndarray
    exact_duplicates: np.ndarray
    near_duplicates: np.ndarray
    pairs: list[tuple[int, int, float]]


def look_for_copies(
    images: np.ndarray,
    labels: np.ndarray,
    index: TrainingIndex,
    features: tuple[np.ndarray, np.ndarray, np.ndarray],
    held_out_labels: np.ndarray,
) -> Copying:
    """Compare generated images with the training set and with each other.

    Args:
        images: generated, uint8 (N, C, H, W).
        labels: int64 (N,).
        index: of the training set.
        features: of the generated images (N, F), of training images, and of held-out ones (M, F).
        held_out_labels: int64 (M,).
    """
    made, known, others = features
    nearest, row = nearest_neighbours(made, known)
    held_out, _ = nearest_neighbours(others, known)
    usual, _ = nearest_neighbours(known, known)
    apart, source = index.nearest(images, labels)
    order = np.argsort(apart, kind="stable")[:SHOWN_PAIRS]
    return Copying(
        nearest=nearest,
        held_out=held_out,
        authenticity=float((nearest > usual[row]).mean()),
        copying_z=_copying_z(nearest, labels, held_out, held_out_labels),
        copies=index.copies(images, labels),
        exact_duplicates=exact_duplicates(images),
        near_duplicates=near_duplicates(images, labels, index),
        pairs=[
            (int(number), int(source[number]), float(np.sqrt(apart[number])))
            for number in order
            if np.isfinite(apart[number])
        ],
    )


def mann_whitney_z(one: np.ndarray, two: np.ndarray) -> float | None:
    """How far the values of `one` rank above those of `two`, in standard deviations of chance.

    With the correction for ties. None where one of them is empty or all values are the same.
    """
    first, second = len(one), len(two)
    if not (first and second):
        return None
    ranks = rankdata(np.concatenate([one, two]))
    total = first + second
    _, ties = np.unique(ranks, return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum())
    variance = first * second / 12.0 * ((total + 1) - tied / max(1, total * (total - 1)))
    if variance <= 0:
        return None
    above = float(ranks[:first].sum()) - first * (first + 1) / 2
    return float((above - first * second / 2) / variance**0.5)


def _copying_z(
    nearest: np.ndarray, labels: np.ndarray, held_out: np.ndarray, held_out_labels: np.ndarray
) -> dict[int, float | None]:
    """C_T of Meehan et al., 2020, with the classes as its cells; all of them under -1."""
    classes = np.unique(labels).tolist()
    found = {
        label: mann_whitney_z(nearest[labels == label], held_out[held_out_labels == label])
        for label in classes
    }
    shares = {label: float((held_out_labels == label).mean()) for label in classes}
    known = [label for label in classes if found[label] is not None]
    weight = sum(shares[label] for label in known)
    whole = sum(shares[label] * (found[label] or 0.0) for label in known)
    return {**found, -1: whole / weight if weight else None}


def exact_duplicates(images: np.ndarray) -> np.ndarray:
    """Which images have the very pixels of an earlier one, bool (N,)."""
    seen: set[bytes] = set()
    found = np.zeros(len(images), dtype=bool)
    for number, image in enumerate(images):
        digest = hashlib.sha256(image.tobytes()).digest()
        found[number] = digest in seen
        seen.add(digest)
    return found


def near_duplicates(images: np.ndarray, labels: np.ndarray, index: TrainingIndex) -> np.ndarray:
    """Which images are to an earlier one of their class as a copy is to its original, bool (N,)."""
    found = np.zeros(len(images), dtype=bool)
    for label in np.unique(labels).tolist():
        own = np.flatnonzero(labels == label)
        codes = index.encode(images[own])
        limit = max(float(index.limits[label]), 1.0)
        found[own] = _has_earlier(codes, limit)
    return found


def _has_earlier(codes: np.ndarray, limit: float, rows: int = 1024) -> np.ndarray:
    found = np.zeros(len(codes), dtype=bool)
    for start in range(0, len(codes), rows):
        stop = min(start + rows, len(codes))
        apart = code_distances(codes[start:stop], codes[:stop])
        earlier = np.arange(stop)[None] < np.arange(start, stop)[:, None]
        found[start:stop] = ((apart < limit) & earlier).any(axis=1)
    return found
