"""A PNG in bands of rows, each a PNG of its own, so that Pillow never decodes more than one.

The rows are unzipped as a stream. Their filters refer to the row above, so each band is decoded
with the last row of the band before it on top, as plain bytes; then it is framed again without
filters.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from datagen.errors import InvalidFile
from datagen.images import PNG_SIGNATURE, png_chunk
from datagen.pictures.high_bit_depth import colours_of_16_bits
from datagen.pictures.opening import opened
from datagen.pictures.picture import ORIENTATION, checked_orientation

BAND_BYTES = 4 << 20
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The kind of colour of 8 bits that has so many bytes a pixel.
_COLOUR_OF_BYTES = {1: 0, 2: 4, 3: 2, 4: 6}
_COLOUR_OF_DEEP = {6: 2, 8: 6}
_KEPT = frozenset({b"PLTE", b"tRNS"})


@dataclass(frozen=True)
class _Layout:
    """What the header says of the rows.

    Attributes:
        head: the body of the first chunk.
        kept: chunks that every band needs: the palette, and what is clear.
        row: bytes of a row, without its filter.
        pixel: bytes that a filter takes for a pixel.
    """

    head: bytes
    kept: bytes
    row: int
    pixel: int

    @property
    def height(self) -> int:
        return int.from_bytes(self.head[4:8], "big")


def png_bands(data: bytes, name: str) -> Iterator[bytes]:
    """PNG files that hold the rows of a PNG, some at a time, from the first to the last.

    Raises:
        InvalidFile: interlaced, truncated or damaged.
    """
    layout = _layout(data, name)
    at_once = max(1, BAND_BYTES // layout.row)
    above, done = bytes(layout.row), 0
    for filtered in _filtered(data, layout, at_once, name):
        rows = _unfiltered(filtered, above, layout, name)
        above, done = rows[-1].tobytes(), done + len(rows)
        plain = np.zeros((len(rows), layout.row + 1), np.uint8)
        plain[:, 1:] = rows
        head = layout.head[:4] + struct.pack(">I", len(rows)) + layout.head[8:]
        yield _framed(head, layout.kept, plain.tobytes())
    if done < layout.height:
        raise InvalidFile(f"{name} ends after {done:,} of its {layout.height:,} rows.")


def png_orientation(data: bytes) -> int:
    """How a camera noted that it was held, from 1 to 8."""
    for kind, body in _chunks(data):
        if kind == b"eXIf":
            exif = Image.Exif()
            try:
                exif.load(b"Exif\0\0" + body)
                found = exif.get(ORIENTATION, 1)
            # Pillow raises whatever a damaged note leads it into.
            except Exception:  # noqa: BLE001
                return 1
            return checked_orientation(found)
    return 1


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, start = memoryview(data), len(PNG_SIGNATURE)
    while start + 12 <= len(data):
        size = int.from_bytes(view[start : start + 4], "big")
        yield bytes(view[start + 4 : start + 8]), view[start + 8 : start + 8 + size]
        start += size + 12


def _layout(data: bytes, name: str) -> _Layout:
    head = data[16:29]
    width, _, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    if interlaced:
        raise InvalidFile(
            f"{name} is an interlaced PNG, which is not read when it is that large; save it "
            "without interlacing."
        )
    size = bits * _SAMPLES[colour]
    kept = b"".join(png_chunk(kind, bytes(body)) for kind, body in _chunks(data) if kind in _KEPT)
    return _Layout(head, kept, (width * size + 7) // 8, max(1, size // 8))


def _filtered(data: bytes, layout: _Layout, at_once: int, name: str) -> Iterator[bytes]:
    """Rows with their filters, at most so many at a time."""
    line = layout.row + 1
    unzip, waiting, left = zlib.decompressobj(), bytearray(), layout.height * line
    for kind, body in _chunks(data):
        if kind != b"IDAT":
            continue
        rest: bytes | memoryview = body
        while rest and left > 0:
            most = min(left, at_once * line) - len(waiting)
            try:
                waiting += unzip.decompress(rest, most)
            except zlib.error as error:
                raise InvalidFile(f"{name} cannot be decoded: {error}.") from None
            rest = unzip.unconsumed_tail
            if len(waiting) == min(left, at_once * line):
                left -= len(waiting)
                yield bytes(waiting)
                waiting.clear()
    if whole := len(waiting) // line * line:
        yield bytes(waiting[:whole])


def _unfiltered(filtered: bytes, above: bytes, layout: _Layout, name: str) -> np.ndarray:
    """The bytes of rows, uint8 of shape (rows, bytes a row)."""
    count = len(filtered) // (layout.row + 1)
    deep = layout.pixel in _COLOUR_OF_DEEP
    colour = _COLOUR_OF_DEEP[layout.pixel] if deep else _COLOUR_OF_BYTES[layout.pixel]
    width = layout.row // layout.pixel
    head = struct.pack(">IIBBBBB", width, count + 1, 16 if deep else 8, colour, 0, 0, 0)
    data = _framed(head, b"", b"\0" + above + filtered)
    image = opened(data, name)
    if not deep:
        return np.frombuffer(image.tobytes(), np.uint8).reshape(count + 1, -1)[1:]
    raw = "RGBA" if image.mode == "RGBA" else "RGB"
    values = colours_of_16_bits(image, data, f"{raw};16B", lambda again: opened(again, name))
    return values.transpose(1, 2, 0).astype(">u2").view(np.uint8).reshape(count + 1, -1)[1:]


def _framed(head: bytes, kept: bytes, rows: bytes) -> bytes:
    body = png_chunk(b"IDAT", zlib.compress(rows, 0))
    return b"".join((PNG_SIGNATURE, png_chunk(b"IHDR", head), kept, body, png_chunk(b"IEND", b"")))
