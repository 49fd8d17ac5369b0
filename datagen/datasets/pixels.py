"""From the bytes of a picture to pixels of the wanted size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from datagen.datasets.reading import ReadOptions
from datagen.datasets.source import Entry
from datagen.errors import InvalidFile
from datagen.images import Picture, read_picture

RESIZED = "resized"
PADDED = "padded"


def decoded(entry: Entry, options: ReadOptions) -> Picture:
    """The pixels of an entry, brought to the wanted size. Raises InvalidFile."""
    if entry.problem is not None:
        raise InvalidFile(entry.problem)
    if entry.label is None:
        raise InvalidFile(f"{entry.name} has no label.")
    try:
        data = entry.data.read_bytes() if isinstance(entry.data, Path) else entry.data
    except OSError as error:
        raise InvalidFile(f"{entry.name} cannot be read: {error.strerror}.") from error
    if not data:
        raise InvalidFile(f"{entry.name} is empty: it has no bytes at all.")
    picture = read_picture(data, entry.name)
    if options.size is None:
        return picture
    pixels, changes = fitted(picture.pixels, options.size, pad=options.pad)
    return Picture(pixels, picture.changes | changes)


def fitted(pixels: np.ndarray, size: int, *, pad: bool) -> tuple[np.ndarray, frozenset[str]]:
    """An image uint8 (C, H, W) as (C, size, size), and what was done to it.

    It is squeezed or stretched to the square. With `pad` it keeps its proportions instead, gets
    smaller if need be and never larger, and is filled up with the median colour of its edge, which
    is the background where there is one. Sizes change with an antialiasing filter (Lanczos).
    """
    _, height, width = pixels.shape
    if (height, width) == (size, size):
        return pixels, frozenset()
    if not pad:
        return _resized(pixels, size, size), frozenset({RESIZED})
    scale = min(1.0, size / max(height, width))
    inner = _resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    top, left = (size - inner.shape[1]) // 2, (size - inner.shape[2]) // 2
    canvas = np.empty((len(pixels), size, size), dtype=np.uint8)
    canvas[:] = _edge_colour(pixels)[:, None, None]
    canvas[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
    return canvas, frozenset({PADDED})


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[1:] == (height, width):
        return pixels
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS))
        for plane in pixels
    ]
    return np.stack(planes)


def _edge_colour(pixels: np.ndarray) -> np.ndarray:
    edge = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], axis=1)
    return np.asarray(np.median(edge, axis=1)).astype(np.uint8)
