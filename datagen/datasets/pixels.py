"""From the bytes of a picture to pixels of the wanted size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datagen.datasets.archive import LARGEST_PICTURE
from datagen.datasets.reading import ReadOptions
from datagen.datasets.source import Entry
from datagen.datasets.unscaled import multiplied
from datagen.datasets.value_range import Span, measured
from datagen.errors import InvalidFile
from datagen.pictures.reading import read_picture

RESIZED = "resized"
PADDED = "padded"


class Ready(NamedTuple):
    """An image of the wanted size.

    Attributes:
        pixels: (C, H, W): grey values as uint8, C being 1 or 3; or, where `span` is there, values
            whose range is not decided, as `Unscaled` keeps them.
        changes: what was done to it.
        span: where its values lie.
    """

    pixels: np.ndarray
    changes: frozenset[str]
    span: Span | None = None


def decoded(entry: Entry, options: ReadOptions, *, bright: bool) -> Ready:
    """The pixels of an entry, brought to the wanted size.

    Args:
        entry: the picture's file.
        options: how the dataset is to be read.
        bright: whether the dataset has grey values above 1. Without them the picture may be of 0
            and 1, as masks are, which only the whole dataset tells.

    Raises:
        InvalidFile: it cannot be read.
    """
    if entry.problem is not None:
        raise InvalidFile(entry.problem)
    if entry.label is None:
        raise InvalidFile(f"{entry.name} has no label.")
    try:
        data = _bytes_of(entry.data, entry.name) if isinstance(entry.data, Path) else entry.data
    except OSError as error:
        raise InvalidFile(f"{entry.name} cannot be read: {error.strerror}.") from error
    if not data:
        raise InvalidFile(f"{entry.name} is empty: it has no bytes at all.")
    picture = read_picture(data, entry.name, small=options.size)
    kind = picture.values
    if kind is None and not bright and picture.pixels.max() <= 1:
        kind = "uint8"
    if kind is None:
        return ready(picture.pixels, picture.changes, options)
    span = measured(picture.pixels, kind, entry.name, alpha=picture.alpha)
    return ready(multiplied(picture.pixels, span, own=True), picture.changes, options, span)


def _bytes_of(path: Path, name: str) -> bytes:
    """A picture's file. Raises InvalidFile where no picture is so large; OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_PICTURE:
            raise InvalidFile(f"{name} has {size:,} bytes, which is too large for a picture.")
        return file.read()


def ready(
    pixels: np.ndarray, changes: frozenset[str], options: ReadOptions, span: Span | None = None
) -> Ready:
    """An image (C, H, W) brought to the wanted size."""
    if options.size is None:
        return Ready(pixels, changes, span)
    if span is not None and pixels.dtype == np.uint8:
        # Grey values of 0 and 1 would stay 0 and 1 between light and dark.
        pixels = pixels.astype(np.float32)
    fitting, more = fitted(pixels, options.size, pad=options.pad)
    return Ready(fitting, changes | more, span)


def fitted(pixels: np.ndarray, size: int, *, pad: bool) -> tuple[np.ndarray, frozenset[str]]:
    """An image (C, H, W) as (C, size, size), uint8 or else float32, and what was done to it.

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
    canvas = np.empty((len(pixels), size, size), dtype=inner.dtype)
    canvas[:] = _edge_colour(pixels)[:, None, None]
    canvas[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
    return canvas, frozenset({PADDED})


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[1:] == (height, width):
        return pixels
    return np.stack([_plane(plane, (width, height)) for plane in pixels])


def _plane(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # Plane by plane, so that a large picture is never in memory as fractions.
    values = values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.LANCZOS))


def _edge_colour(pixels: np.ndarray) -> np.ndarray:
    edge = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], axis=1)
    return np.asarray(np.median(edge, axis=1)).astype(pixels.dtype)
