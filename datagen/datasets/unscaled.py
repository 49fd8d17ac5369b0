"""Images that wait, unscaled, until the range of the whole dataset's values is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from datagen.datasets.value_range import GREY, Kind, Scale, Span

# Types that are kept as they are. Of all others the values that are not refused, which are below
# 65,536, or fractions of that, become float32 without a loss that 8 bits would show.
_KEPT = frozenset({"uint8", "int8", "uint16", "int16"})
# Values that are scaled at once.
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class _Segment:
    rows: Sequence[int] | np.ndarray
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]
    kind: Kind
    opacity: bool


@dataclass
class Unscaled:
    """Images that wait in a file of their own.

    Attributes:
        file: where they are, one after the other.
    """

    file: BinaryIO
    _segments: list[_Segment] = field(default_factory=list)

    def add(self, rows: Sequence[int] | np.ndarray, values: np.ndarray, span: Span) -> None:
        """Keep images of one type and shape.

        Args:
            rows: their places in the dataset.
            values: (n, C, H, W), C being 1 or 3; and one more where there is opacity, with which
                the colours were multiplied.
            span: where the values lie.
        """
        kept = values if values.dtype.name in _KEPT else values.astype(np.float32)
        segment = _Segment(
            rows, self.file.tell(), kept.dtype, kept.shape[1:], span.kind, span.opacity is not None
        )
        self._segments.append(segment)
        self.file.write(np.ascontiguousarray(kept).data)

    def put(self, images: np.ndarray, scales: Mapping[Kind, Scale]) -> None:
        """Write the grey values of all of them to their places.

        Args:
            images: uint8 (N, C, H, W), of the whole dataset.
            scales: what the values of each kind become grey values by.
        """
        for segment in self._segments:
            size = int(np.prod(segment.shape))
            at_once = max(1, _AT_ONCE // size)
            self.file.seek(segment.start)
            for start in range(0, len(segment.rows), at_once):
                rows = segment.rows[start : start + at_once]
                data = self.file.read(len(rows) * size * segment.dtype.itemsize)
                values = np.frombuffer(data, segment.dtype).reshape(-1, *segment.shape)
                images[np.asarray(rows)] = _grey(values, scales[segment.kind], segment.opacity)


def multiplied(values: np.ndarray, span: Span, *, own: bool = False) -> np.ndarray:
    """Values (..., C, H, W) with the colours multiplied with opacity, if that is the last channel.

    In this form they can be resized, and laid over white, before their range is known.

    Args:
        values: of any type.
        span: where they lie.
        own: whether they are the caller's alone, and may be changed.
    """
    if span.opacity is None:
        return values
    found = values.astype(np.float32, copy=not own)
    found[..., :-1, :, :] *= found[..., -1:, :, :]
    return found


def _grey(values: np.ndarray, scale: Scale, opacity: bool) -> np.ndarray:
    """Grey values, uint8 (n, C, H, W); what is seen through is laid over white."""
    found = values.astype(np.float64)
    if opacity:
        cover = found[:, -1:] / scale.opaque
        found = found[:, :-1] * (GREY / (scale.white * scale.opaque)) + GREY * (1.0 - cover)
    else:
        found *= GREY / scale.white
    return np.clip(np.rint(found), 0, GREY).astype(np.uint8)
