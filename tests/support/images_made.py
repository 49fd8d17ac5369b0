"""Picture files of kinds that no program here writes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """A picture as a file of a kind."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(rows: list[bytes], width: int, bits: int, colour: int, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of rows that begin with their filter, with more chunks before the pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def deep_png(values: np.ndarray, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a value, from uint16 (H, W, C), C being 1 to 4."""
    rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    return png(rows, values.shape[1], 16, colour, *more)


def tiff(
    values: np.ndarray, photometric: int, order: str = "<", *, deflated: bool = False, **tags: int
) -> bytes:
    """A TIFF of one strip.

    Args:
        values: (H, W, C).
        photometric: what the values mean.
        order: of the bytes.
        deflated: compress them.
        tags: more of them, as `t338=2`.
    """
    height, width, count = values.shape
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if deflated:
        pixels = zlib.compress(pixels)
    pixels += bytes(len(pixels) % 2)
    bits, kind = values.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    start = 8 + len(pixels)
    fields = {
        256: width, 257: height, 258: bits, 259: 8 if deflated else 1, 262: photometric, 273: 8,
        277: count, 278: height, 279: len(pixels), 339: kind,
    } | {int(name[1:]): value for name, value in tags.items()}  # fmt: skip
    end = start + 2 + 12 * len(fields) + 4
    entries, beyond = b"", b""
    for tag, value in sorted(fields.items()):
        if tag in {258, 339} and count > 2:
            entries += struct.pack(f"{order}HHLL", tag, 3, count, end + len(beyond))
            beyond += struct.pack(f"{order}{count}H", *[value] * count)
        elif tag in {258, 339}:
            body = struct.pack(f"{order}{count}H", *[value] * count).ljust(4, b"\0")
            entries += struct.pack(f"{order}HHL", tag, 3, count) + body
        else:
            entries += struct.pack(f"{order}HHLL", tag, 4, 1, value)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HL", 42, start)
    directory = struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + beyond
    return head + pixels + directory


def bmp(values: np.ndarray) -> bytes:
    """A BMP of 32 bits with an alpha mask, from uint8 BGRA (H, W, 4)."""
    pixels = values[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    height, width = values.shape[:2]
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head += masks + b"BGRs" + bytes(48)
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + pixels
