"""Making a picture small while it comes in bands, so that it never lies in memory as a whole."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from datagen.images import MAX_PIXELS
from datagen.pictures.picture import Picture

# A picture is kept at least this many times as large as it becomes, for a good filter to end with.
SPARE = 2
# Rows that are added at once.
_ROWS = 64


def small_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height, in the proportions of a large picture, from which it becomes a square.

    Args:
        size: its width and height.
        side: of the square.
    """
    width, height = size
    factor = max(1.0, min(width, height) / (SPARE * side), math.sqrt(width * height / MAX_PIXELS))
    return max(1, int(width / factor)), max(1, int(height / factor))


class Shrunk:
    """The mean of the pixels that fall together, row by row as they come.

    Args:
        size: width and height of the large picture.
        small: those of the small one.
    """

    def __init__(self, size: tuple[int, int], small: tuple[int, int]) -> None:
        self._height = size[1]
        self._small = small
        self._sums: np.ndarray | None = None
        self._row = 0
        self._changes: set[str] = set()
        self._values: str | None = None
        self._clear = True

    def add(self, band: Picture) -> None:
        """Take in the next rows."""
        pixels = _with_products(band)
        narrow = np.stack([self._narrow(plane) for plane in pixels])
        if self._sums is None:
            self._sums = np.zeros((len(narrow), self._small[1], self._small[0]), np.float32)
        # Each row is in few of the small ones: the shares of many at once would be mostly 0.
        for start in range(0, narrow.shape[1], _ROWS):
            rows = narrow[:, start : start + _ROWS]
            first, weights = self._weights(rows.shape[1])
            self._sums[:, first : first + len(weights)] += np.matmul(weights, rows)
            self._row += rows.shape[1]
        self._clear &= "clear" in band.changes
        self._changes |= band.changes - {"clear"}
        self._values = band.values

    def _narrow(self, plane: np.ndarray) -> np.ndarray:
        image = Image.fromarray(plane.astype(np.float32, copy=False))
        size = (self._small[0], plane.shape[0])
        return np.asarray(image.resize(size, Image.Resampling.BOX))

    def _weights(self, rows: int) -> tuple[int, np.ndarray]:
        """The first small row that these rows are in, and their shares in it and those below."""
        scale = self._small[1] / self._height
        edges = (self._row + np.arange(rows + 1)) * scale
        first, last = int(edges[0]), min(math.ceil(edges[-1]), self._small[1])
        small = np.arange(first, last)[:, None]
        shares = np.minimum(edges[1:], small + 1) - np.maximum(edges[:-1], small)
        return first, np.maximum(shares, 0.0).astype(np.float32)

    def picture(self) -> Picture:
        """The small picture, when all rows have come."""
        assert self._sums is not None  # noqa: S101 - for the type checker
        changes = frozenset(self._changes | ({"clear"} if self._clear else set()))
        if self._values is None:
            pixels = np.clip(np.rint(self._sums), 0, 255).astype(np.uint8)
            return Picture(pixels, changes)
        return Picture(_without_products(self._sums), changes, self._values)


def _with_products(band: Picture) -> np.ndarray:
    if not band.alpha:
        return band.pixels
    opacity = band.pixels[-1:].astype(np.float32)
    return np.concatenate([band.pixels[:-1].astype(np.float32) * opacity, opacity])


def _without_products(pixels: np.ndarray) -> np.ndarray:
    if len(pixels) not in {2, 4}:
        return pixels
    colours = pixels[:-1] / np.maximum(pixels[-1:], np.float32(1e-6))
    return np.concatenate([colours, pixels[-1:]])
