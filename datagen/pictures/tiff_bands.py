"""A TIFF in bands of rows, each a TIFF of its own, so that Pillow never decodes more than one.

A TIFF holds its pixels in strips of rows, or in tiles, which are compressed each by itself. A band
is a row of tiles, or some strips, under a header of the same kind; long strips that are not
compressed are divided.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from datagen.errors import InvalidFile
from datagen.images import MAX_PIXELS
from datagen.pictures.high_bit_depth import PLANAR

WIDTH, HEIGHT = 256, 257
_COMPRESSION = 259
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_COUNTS = 273, 278, 279
_TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 323, 324, 325
# Tags that decoding needs, and that are the same for every band.
_KEPT = (258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 322, 323, 332, 338, 339, 347, 529, 530,
         531, 532)  # fmt: skip
_UNCOMPRESSED = 1
_SEPARATE = 2
BAND_PIXELS = 1 << 20
_LONG, _RATIONAL = 4, 5
# Of the kinds of whole numbers that fields have.
_LETTERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}


def tiff_bands(image: TiffImageFile, data: bytes, name: str) -> Iterator[bytes]:
    """TIFF files that hold the rows of a TIFF, some at a time, from the first to the last.

    Raises:
        InvalidFile: a layout that can be decoded as a whole only, or parts outside the file.
    """
    tags = image.tag_v2
    width, height = int(tags[WIDTH]), int(tags[HEIGHT])
    if tags.get(PLANAR) == _SEPARATE:
        raise InvalidFile(
            f"{name} has its colours in separate planes, which is not read of a TIFF of {width} x "
            f"{height} pixels; save it with interleaved colours."
        )
    tiled = _TILE_OFFSETS in tags
    parts = _parts(tags, data, name, tiled=tiled)
    if tiled:
        rows, per_band = int(tags[_TILE_HEIGHT]), -(-width // int(tags[_TILE_HEIGHT - 1]))
    else:
        rows = min(int(tags.get(_ROWS_PER_STRIP, height)), height)
        if tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
            rows, parts = _divided(parts, rows, width, height)
        per_band = max(1, BAND_PIXELS // (rows * width))
    if rows * (1 if tiled else per_band) * width > MAX_PIXELS:
        raise InvalidFile(
            f"{name} is a TIFF of {width} x {height} pixels in one compressed piece; save it in "
            "strips or tiles, or as PNG or JPEG."
        )
    step = rows if tiled else rows * per_band
    for number, top in enumerate(range(0, height, step)):
        own = parts[number * per_band : (number + 1) * per_band]
        yield _framed(image, own, min(step, height - top), rows, tiled=tiled)


def _parts(tags: Mapping[int, Any], data: bytes, name: str, *, tiled: bool) -> list[memoryview]:
    offsets = tags[_TILE_OFFSETS if tiled else _STRIP_OFFSETS]
    counts = tags.get(_TILE_COUNTS if tiled else _STRIP_COUNTS)
    if counts is None and len(offsets) == 1:
        counts = (len(data) - offsets[0],)
    view = memoryview(data)
    if counts is None or len(counts) != len(offsets):
        raise InvalidFile(f"{name} does not say how long its strips are; save it as PNG.")
    parts = [view[start : start + count] for start, count in zip(offsets, counts, strict=True)]
    if any(len(part) != count for part, count in zip(parts, counts, strict=True)):
        raise InvalidFile(f"{name} is truncated: a strip lies outside of the file.")
    return parts


def _divided(
    parts: Sequence[memoryview], rows: int, width: int, height: int
) -> tuple[int, list[memoryview]]:
    """Strips that are not compressed, in shorter ones; and the rows in each of those."""
    few = max(1, BAND_PIXELS // width)
    if rows <= few:
        return rows, list(parts)
    if len(parts) > 1:
        # The strips of a file are of one height, but for the last.
        few = next(count for count in range(few, 0, -1) if rows % count == 0)
    found: list[memoryview] = []
    for number, part in enumerate(parts):
        own = min(rows, height - number * rows)
        line = len(part) // own
        found += [part[top * line : min(own, top + few) * line] for top in range(0, own, few)]
    return few, found


def _framed(
    image: TiffImageFile, parts: Sequence[memoryview], height: int, rows: int, *, tiled: bool
) -> bytes:
    """A little TIFF of some strips, or of a row of tiles: its pixels, and then their directory."""
    tags = image.tag_v2
    order = "<" if tags.prefix[:2] == b"II" else ">"
    starts = list(accumulate((len(part) for part in parts[:-1]), initial=8))
    fields: dict[int, tuple[int, Any]] = {
        tag: (tags.tagtype[tag], tags[tag]) for tag in _KEPT if tag in tags
    }
    fields |= {WIDTH: (_LONG, tags[WIDTH]), HEIGHT: (_LONG, height)}
    fields[_TILE_OFFSETS if tiled else _STRIP_OFFSETS] = (_LONG, starts)
    fields[_TILE_COUNTS if tiled else _STRIP_COUNTS] = (_LONG, [len(part) for part in parts])
    if not tiled:
        fields[_ROWS_PER_STRIP] = (_LONG, rows)
    pixels = b"".join(parts)
    # A directory begins at an even place.
    pixels += bytes(len(pixels) % 2)
    head = tags.prefix[:2] + struct.pack(f"{order}HL", 42, 8 + len(pixels))
    return bytes(head + pixels + _directory(order, fields, 8 + len(pixels)))


def _directory(order: str, fields: Mapping[int, tuple[int, Any]], start: int) -> bytes:
    entries, beyond = [], b""
    end = start + 2 + 12 * len(fields) + 4
    for tag, (kind, value) in sorted(fields.items()):
        count, body = _packed(order, kind, value)
        if len(body) > 4:  # noqa: PLR2004 - what fits into an entry
            place = struct.pack(f"{order}L", end + len(beyond))
            beyond += body + bytes(len(body) % 2)
        else:
            place = body.ljust(4, b"\0")
        entries.append(struct.pack(f"{order}HHL", tag, kind, count) + place)
    return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4) + beyond


def _packed(order: str, kind: int, value: Any) -> tuple[int, bytes]:
    """How many values a field has, and their bytes."""
    if isinstance(value, bytes):
        return len(value), value
    values = list(value) if isinstance(value, tuple | list) else [value]
    if kind == _RATIONAL:
        pairs = [part for own in values for part in (own.numerator, own.denominator)]
        return len(values), struct.pack(f"{order}{len(pairs)}L", *pairs)
    return len(values), struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
