"""The training index: what a model remembers of its images, to tell copies of them.

Each image is a few small whole numbers: how far it lies along some directions, rounded. Whole
numbers add up exactly in any order, so that a candidate is a copy or not whatever machine asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from datagen.errors import InvalidFile

PER_CLASS = 2000
# Directions that are kept, and those of them that the images differ most along. The squares of 64
# differences of bytes add up exactly in float32.
COMPONENTS, PRINCIPAL = 64, 48
# Images that the directions are found from, and their values: more change little, and cost.
_FITTED, _FITTED_VALUES = 2000, 1 << 25
_MIDDLE, _TOP = 128, 255
_LARGEST_WEIGHT = 32767
# This share of a class's usual distance between neighbours makes a copy. Of MNIST's test images,
# which are none, 1 in 3,000 is so near to a training image of its class; of training images under
# noise of 8 grey levels 999 in 1,000 are, and 989 of those mixed with a tenth of another image.
COPY_SHARE = 0.5
# Images that are looked at together, and the values that they may have: twice 8 bytes for each.
_ROWS_AT_ONCE, _VALUES_AT_ONCE = 2048, 1 << 25
# What varies less, in squared grey levels, is rounding.
_NO_VARIANCE = 1e-6
_NAMES = ("weights", "centre", "codes", "labels", "rows", "limits")


@dataclass(frozen=True)
class TrainingIndex:
    """Codes of real images, sorted by label.

    Attributes:
        weights: one column a direction, int16 of shape (C x H x W, F).
        centre: what is subtracted after that, float64 of whole numbers, (F,).
        scale: a power of two that brings the differences into a byte.
        codes: uint8 of shape (E, F).
        labels: int64 of shape (E,), rising.
        rows: row of each image in the training split, int64 of shape (E,).
        limits: squared distance of codes below which an image of a class is a copy, float64 (K,).
    """

    weights: np.ndarray
    centre: np.ndarray
    scale: float
    codes: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    limits: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes uint8 (N, F) of images uint8 (N, C, H, W)."""
        return _encoded(images, self.weights, self.centre, self.scale)

    def nearest(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The squared distance to the nearest real image of the same label, and its row.

        Args:
            images: uint8 (N, C, H, W).
            labels: int64 (N,).

        Returns:
            float64 (N,), infinite for a label that has no image here, and int64 (N,), -1 then.
        """
        distance = np.full(len(images), np.inf)
        row = np.full(len(images), -1, dtype=np.int64)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            first, last = np.searchsorted(self.labels, [label, label + 1])
            if first == last:
                continue
            size = _rows_at_once(images[0].size)
            for start in range(0, len(own), size):
                part = own[start : start + size]
                apart = code_distances(self.encode(images[part]), self.codes[first:last])
                at = apart.argmin(axis=1)
                distance[part] = apart[np.arange(len(part)), at]
                row[part] = self.rows[first + at]
        return distance, row

    def copies(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether each image is a copy of a training image of its label, bool (N,)."""
        distance, _ = self.nearest(images, labels)
        # Nothing is nearer than 0, and that is a copy even where a class is full of them.
        found: np.ndarray = distance < np.maximum(self.limits[labels], 1.0)
        return found


def index_of(
    pixels: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    class_count: int,
    per_class: int = PER_CLASS,
) -> TrainingIndex:
    """The index of real images, of at most so many a class: the first ones of each.

    A copy is what lies nearer to an image than half the way at which images of the class usually
    have their nearest neighbour.

    Args:
        pixels: gives the images uint8 (n, C, H, W) of row numbers int64 (n,), at most 2,048 at
            once, so that a dataset need not fit into memory.
        labels: of all images, int64 (N,), N at least 1.
        class_count: K; a class may have no image.
        per_class: 2,000 are enough for a gate.
    """
    rows = np.concatenate(
        [np.flatnonzero(labels == label)[:per_class] for label in range(class_count)]
    )
    own = labels[rows]
    values = pixels(rows[:1]).size
    fitted = max(1, min(_FITTED, _FITTED_VALUES // values))
    step, size = -(-len(rows) // fitted), _rows_at_once(values)
    weights, centre, scale = _directions(_flat(pixels(rows[::step])).astype(np.float64))
    codes = np.concatenate(
        [
            _encoded(pixels(rows[start : start + size]), weights, centre, scale)
            for start in range(0, len(rows), size)
        ]
    )
    limits = _limits(codes, own, class_count)
    return TrainingIndex(weights, centre, scale, codes, own, rows, limits)


def _rows_at_once(values: int) -> int:
    """Images of so many values that are looked at together."""
    return max(1, min(_ROWS_AT_ONCE, _VALUES_AT_ONCE // values))


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _directions(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, centre and scale of the directions that images (N, D) are told apart by.

    The images are float64, and overwritten.
    """
    count, size = images.shape
    mean = images.mean(axis=0)
    images -= mean
    centred = images
    # The smaller of the two products has the same values, and gives the same directions.
    values, vectors = np.linalg.eigh(centred @ centred.T if count < size else centred.T @ centred)
    # Largest first; what does not vary at all tells nothing.
    principal = min(PRINCIPAL, int((values > _NO_VARIANCE).sum()))
    directions = vectors[:, np.argsort(values)[::-1][:principal]]
    if count < size:
        directions = centred.T @ directions
        directions /= np.maximum(np.linalg.norm(directions, axis=0), 1e-12)
    directions = np.concatenate([directions, _others(directions, min(COMPONENTS, size))], axis=1)
    reach = max(_TOP, float(np.abs(centred @ directions[:, :1]).max()))
    fine = _LARGEST_WEIGHT / max(float(np.abs(directions).max(initial=0.0)), 1e-12)
    scale = 2.0 ** np.floor(np.log2((_MIDDLE - 1) / (reach * fine)))
    # The exact factor that takes the farthest image to the edge of a byte.
    weights = np.rint(directions * (_MIDDLE - 1) / (reach * scale)).astype(np.int64)
    weights = np.clip(weights, -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int16)
    centre = np.rint(mean @ weights.astype(np.float64))
    return weights, centre, float(scale)


def _others(directions: np.ndarray, wanted: int) -> np.ndarray:
    """Random directions across the given ones, so many that there are `wanted` together.

    The real images hardly differ along them, or not at all where they are few, but others may.
    Each stands for several, and is as much longer.
    """
    size, known = directions.shape
    drawn = np.random.default_rng(0).standard_normal((size, wanted - known))
    drawn -= directions @ (directions.T @ drawn)
    across, _ = np.linalg.qr(drawn)
    found: np.ndarray = across * np.sqrt((size - known) / max(1, wanted - known))
    return found


def _encoded(
    images: np.ndarray, weights: np.ndarray, centre: np.ndarray, scale: float
) -> np.ndarray:
    # Sums of whole numbers far below 2**53, times a power of two: float64 has them exactly.
    along = _flat(images).astype(np.float64) @ weights.astype(np.float64) - centre
    codes: np.ndarray = np.clip(np.floor(along * scale) + _MIDDLE, 0, _TOP).astype(np.uint8)
    return codes


def code_distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Squared distances of codes (N, F) and (M, F), float32 (N, M), exact."""
    first, second = one.astype(np.float32), two.astype(np.float32)
    squares = np.square(second).sum(axis=1)[None] - 2.0 * (first @ second.T)
    return np.asarray(squares + np.square(first).sum(axis=1)[:, None])


def _limits(codes: np.ndarray, labels: np.ndarray, class_count: int) -> np.ndarray:
    """Where copies of each class begin; a class of one image takes the middle of the others'.

    An image that a class has twice, as an oversampled one has, counts once: it is no neighbour of
    itself.
    """
    usual = np.full(class_count, np.nan)
    for label in range(class_count):
        own = np.unique(codes[labels == label], axis=0)
        if len(own) > 1:
            usual[label] = np.median(_to_neighbours(own))
    known = usual[np.isfinite(usual)]
    usual[np.isnan(usual)] = np.median(known) if len(known) else 0.0
    return COPY_SHARE**2 * usual


def _to_neighbours(codes: np.ndarray) -> np.ndarray:
    """Squared distance of each of the codes to the nearest of the others."""
    found = []
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        part = codes[start : start + _ROWS_AT_ONCE]
        apart = code_distances(part, codes)
        rows = np.arange(len(part))
        apart[rows, start + rows] = np.inf
        found.append(apart.min(axis=1))
    return np.concatenate(found)


def save_index(path: Path, index: TrainingIndex) -> None:
    """Write an index as safetensors; the same bytes for the same index."""
    arrays = {name: np.ascontiguousarray(getattr(index, name)) for name in _NAMES}
    path.write_bytes(save({**arrays, "scale": np.array([index.scale])}))


def load_index(path: Path, image_shape: tuple[int, int, int], class_count: int) -> TrainingIndex:
    """Read what `save_index` wrote. Raises InvalidFile."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error
    if set(found) != {*_NAMES, "scale"} or found["scale"].shape != (1,):
        raise InvalidFile(f"{path.name} holds no training index.")
    scale = float(found.pop("scale")[0])
    index = TrainingIndex(**found, scale=scale)
    if not _fits(index, int(np.prod(image_shape)), class_count):
        raise InvalidFile(f"{path.name} holds a training index that does not fit the model.")
    return index


def _fits(index: TrainingIndex, size: int, class_count: int) -> bool:
    wanted = {"weights": np.int16, "centre": np.float64, "codes": np.uint8}
    wanted |= {"labels": np.int64, "rows": np.int64, "limits": np.float64}
    if any(getattr(index, name).dtype != kind for name, kind in wanted.items()):
        return False
    count, width = len(index.labels), index.weights.shape[-1]
    shapes = (
        index.weights.shape == (size, width) and width <= COMPONENTS,
        index.centre.shape == (width,),
        index.codes.shape == (count, width),
        index.rows.shape == (count,) and index.labels.shape == (count,),
        index.limits.shape == (class_count,),
    )
    return (
        all(shapes)
        and not np.any(np.diff(index.labels) < 0)
        and (count == 0 or (index.labels[0] >= 0 and index.labels[-1] < class_count))
        and bool(np.isfinite(index.limits).all() and np.isfinite(index.centre).all())
        and bool(np.isfinite(index.scale) and index.scale > 0)
    )
