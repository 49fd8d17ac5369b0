"""From the bytes of a picture to pixels of the wanted size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datagen.datasets.reading import ReadOptions
from datagen.datasets.source import Entry
from datagen.datasets.unscaled import multiplied
from datagen.datasets.value_range import Span, measured
from datagen.errors import InvalidFile
from datagen.pictures.reading import read_picture

RESIZED = "resized"
PADDED = "padded"


@dataclass(frozen=True)
class Ready:
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
        data = entry.data.read_bytes() if isinstance(entry.data, Path) else entry.data
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
    return ready(multiplied(picture.pixels, span), picture.changes, options, span)


def ready(
    pixels: np.ndarray, changes: frozenset[str], options: ReadOptions, span: Span | None = None
) -> Ready:
    """An image (C, H, W) brought to the wanted size."""
    if options.size is None:
        return Ready(pixels, changes, span)
    if span is not None:
        pixels = pixels.astype(np.float32)
    fitting, more = fitted(pixels, options.size, pad=options.pad)
    return Ready(fitting, changes | more, span)


def fitted(pixels: np.ndarray, size: int, *, pad: bool) -> tuple[np.ndarray, frozenset[str]]:
    """An image (C, H, W), uint8 or float32, as (C, size, size), and what was done to it.

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
    canvas = np.empty((len(pixels), size, size), dtype=pixels.dtype)
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
    return np.asarray(np.median(edge, axis=1)).astype(pixels.dtype)
