"""Labelled images as arrays, PNG at speed, and pictures to look at.

Arrays of images are uint8 of shape (N, C, H, W) with 1 or 3 channels, everywhere.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from datagen.errors import InvalidFile, InvalidRequest

MAX_SIDE = 8192
MAX_PIXELS = 16_777_216
# Pictures up to this are read where they may become small on the way.
MAX_SMALL_SIDE = 65_535
MAX_SMALL_PIXELS = 1 << 28
_COLOUR_TYPE = {1: 0, 3: 2}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# After the signature and the first chunk.
_IDAT_AT = 33
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# The second filter type of PNG takes the row above away: on smooth colour it saves a third of the
# bytes. Small grey digits are mostly empty, and there it costs time and saves nothing.
_UP = 2
_FILTERED_FROM = 3

# Once for all threads: sizes are refused before anything is decoded.
Image.MAX_IMAGE_PIXELS = MAX_SMALL_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class LabelledImages:
    """Images with a label each.

    Attributes:
        images: uint8 of shape (N, C, H, W), C being 1 or 3.
        labels: int64 of shape (N,), each an index into `class_names`.
        class_names: one name a class, in order.

    Raises:
        InvalidRequest: shapes, types or labels that do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_images(self.images)
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            raise InvalidRequest(
                f"{len(self.images)} images came with labels of shape {self.labels.shape} and type "
                f"{self.labels.dtype}; one int64 label an image is needed."
            )
        if len(set(self.class_names)) != len(self.class_names) or not self.class_names:
            raise InvalidRequest(f"The class names {self.class_names!r} are empty or not distinct.")
        if np.any((self.labels < 0) | (self.labels >= len(self.class_names))):
            raise InvalidRequest(
                f"Labels run from {self.labels.min()} to {self.labels.max()}, but there are "
                f"{len(self.class_names)} classes."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def counts(self) -> np.ndarray:
        """Images per class, int64 of shape (classes,)."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)


def check_images(images: np.ndarray) -> None:
    """Refuse what is not uint8 (N, C, H, W) with 1 or 3 channels. Raises InvalidRequest."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in _COLOUR_TYPE:  # noqa: PLR2004
        raise InvalidRequest(
            f"Images of shape {images.shape} and type {images.dtype} cannot be used; "
            "uint8 of shape (N, 1 or 3, height, width) is needed."
        )
    if 0 in images.shape[1:]:
        raise InvalidRequest(f"Images of shape {images.shape} have no pixels.")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG: its length, kind, body and checksum."""
    return b"".join(
        (struct.pack(">I", len(body)), kind, body, struct.pack(">I", isal_zlib.crc32(kind + body)))
    )


def _scanlines(images: np.ndarray) -> np.ndarray:
    """PNG scan lines with their filter bytes, uint8 of shape (N, H * (1 + W * C))."""
    count, channels, height, width = images.shape
    pixels = images.transpose(0, 2, 3, 1).reshape(count, height, width * channels)
    lines = np.zeros((count, height, 1 + width * channels), dtype=np.uint8)
    lines[:, :, 1:] = pixels
    if channels >= _FILTERED_FROM:
        lines[:, 1:, 0] = _UP
        lines[:, 1:, 1:] -= pixels[:, :-1]
    return lines.reshape(count, -1)


def encode_png(images: np.ndarray) -> list[bytes]:
    """PNG files, the same bytes for the same pixels.

    Compressed by ISA-L at level 1, framed here: a third of the time that a general encoder takes.

    Args:
        images: uint8 of shape (N, C, H, W), C being 1 or 3.

    Raises:
        InvalidRequest: an array of another type or shape.
    """
    check_images(images)
    if len(images) == 0:
        return []
    _, channels, height, width = images.shape
    size = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    head = PNG_SIGNATURE + png_chunk(b"IHDR", size)
    compress, crc32, pack = isal_zlib.compress, isal_zlib.crc32, struct.Struct(">I").pack
    files = []
    # One compressor call an image is the format's nature: every file is a stream of its own.
    for lines in _scanlines(images):
        body = b"IDAT" + compress(lines, 1)
        files.append(b"".join((head, pack(len(body) - 4), body, pack(crc32(body)), _END)))
    return files


class damage_named:  # noqa: N801 - a context manager reads as a verb does
    """Says in a sentence that a picture cannot be decoded. Raises InvalidFile.

    Args:
        name: what the picture is called.
        formats: the kinds that are known where it is looked at.
    """

    # A generator would take twice the time, which a picture of a few pixels feels.
    __slots__ = ("_formats", "_name")

    def __init__(self, name: str, formats: Sequence[str] = ("PNG",)) -> None:
        self._name = name
        self._formats = formats

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, InvalidFile) or not isinstance(error, Exception):
            return
        if isinstance(error, UnidentifiedImageError):
            kinds = ", ".join(self._formats)
            told = f"{self._name} is not a picture of a known kind ({kinds})."
        elif isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            told = (
                f"{self._name} is more than {MAX_SMALL_PIXELS:,} pixels, which is more than is "
                "ever read."
            )
        else:
            # Pillow's decoders raise whatever a damaged file leads them into.
            told = f"{self._name} cannot be decoded: {error}."
        raise InvalidFile(told) from None


def is_large(size: tuple[int, int]) -> bool:
    """Whether a picture of some width and height has too many pixels to be decoded whole."""
    return max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS


def too_large_message(size: tuple[int, int], name: str) -> str:
    """The sentence about a picture that is too large to be decoded, without its end."""
    return (
        f"{name} is {size[0]} x {size[1]} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS:,} in "
        "all are read as they are"
    )


def image_array(image: Image.Image) -> np.ndarray:
    """A grey or RGB picture of 8 bits as uint8 (C, H, W)."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:  # noqa: PLR2004 - a grey picture has no axis for channels
        return pixels[None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_png(data: bytes, name: str = "The image") -> np.ndarray:
    """Pixels of a grey or RGB PNG, uint8 of shape (C, H, W). Raises InvalidFile."""
    with damage_named(name):
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if is_large(image.size):
            raise InvalidFile(f"{too_large_message(image.size, name)}.")
        if getattr(image, "n_frames", 1) > 1:
            raise InvalidFile(f"{name} is animated; give single pictures.")
        image.load()
    if image.mode not in {"L", "RGB"}:
        raise InvalidFile(f"{name} has the pixel mode {image.mode}; 8-bit grey or RGB is read.")
    return image_array(image)


def decode_pngs(files: Sequence[bytes]) -> np.ndarray:
    """Pixels of PNG files of one size, uint8 of shape (N, C, H, W). Raises InvalidFile."""
    own = _decode_own(files)
    return _decode_any(files) if own is None else own


def _decode_own(files: Sequence[bytes]) -> np.ndarray | None:
    """The pixels, if all files are framed as `encode_png` frames them; a tenth of the time."""
    head = files[0][:_IDAT_AT]
    if not head.startswith(PNG_SIGNATURE) or head[12:16] != b"IHDR":
        return None
    width, height, depth, colour, *rest = struct.unpack_from(">IIBBBBB", head, 16)
    channels = {kind: number for number, kind in _COLOUR_TYPE.items()}.get(colour)
    size = height * (1 + width * (channels or 0))
    if channels is None or depth != 8 or any(rest) or size > MAX_PIXELS:  # noqa: PLR2004 - bits
        return None
    lines: list[bytes] = []
    for data in files:
        if not data.startswith(head) or data[_IDAT_AT + 4 : _IDAT_AT + 8] != b"IDAT":
            return None
        stop = _IDAT_AT + 8 + int.from_bytes(data[_IDAT_AT : _IDAT_AT + 4], "big")
        if data[stop + 4 :] != _END or isal_zlib.crc32(data[_IDAT_AT + 4 : stop]) != int.from_bytes(
            data[stop : stop + 4], "big"
        ):
            return None
        try:
            lines.append(isal_zlib.decompress(data[_IDAT_AT + 8 : stop], bufsize=size))
        except isal_zlib.IsalError:  # type: ignore[misc]  # its stub has an instance there
            return None
        if len(lines[-1]) != size:
            return None
    found = np.frombuffer(b"".join(lines), np.uint8).reshape(len(files), height, -1)
    filters, pixels = found[:, :, 0], found[:, :, 1:]
    if np.all(filters[:, 1:] == _UP) and not filters[:, 0].any():
        # Each row was written less the one above it.
        pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
    elif filters.any():
        return None
    pixels = pixels.reshape(len(files), height, width, channels)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _decode_any(files: Sequence[bytes]) -> np.ndarray:
    first = decode_png(files[0])
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    images[0] = first
    for number, data in enumerate(files[1:], start=1):
        pixels = decode_png(data, f"Image {number}")
        if pixels.shape != first.shape:
            raise InvalidFile(
                f"Image {number} has the shape {pixels.shape}, the first has {first.shape}."
            )
        images[number] = pixels
    return images


def contact_sheet(rows: Sequence[np.ndarray], names: Sequence[str], *, scale: int = 2) -> bytes:
    """A PNG picture with one row of images a label, its name at the left.

    Args:
        rows: for each label uint8 of shape (n, C, H, W); n may differ, the rest not.
        names: the labels.
        scale: whole factor by which images are enlarged, without smoothing.

    Raises:
        InvalidRequest: no rows, or not one name a row.
    """
    if not rows or len(rows) != len(names):
        raise InvalidRequest(f"{len(rows)} rows came with {len(names)} names; one a row is needed.")
    gap, font = 4, ImageFont.load_default(size=16)
    shown = [name if len(name) <= 16 else name[:15] + "…" for name in names]  # noqa: PLR2004
    margin = 16 + max(int(font.getlength(name)) for name in shown)
    channels, height, width = rows[0].shape[1:]
    cell_h, cell_w = max(height * scale, 20) + gap, width * scale + gap
    columns = max(len(row) for row in rows)
    sheet = Image.new(
        "RGB", (margin + columns * cell_w + gap, gap + len(rows) * cell_h), (250, 250, 248)
    )
    pen = ImageDraw.Draw(sheet)
    for number, (row, name) in enumerate(zip(rows, shown, strict=True)):
        top = gap + number * cell_h
        pen.text((margin - 8, top + cell_h / 2), name, (60, 60, 60), font, anchor="rm")
        big = row.repeat(scale, axis=2).repeat(scale, axis=3).transpose(0, 2, 3, 1)
        big = np.broadcast_to(big, (*big.shape[:3], 3)) if channels == 1 else big
        for column, pixels in enumerate(big):
            sheet.paste(
                Image.fromarray(np.ascontiguousarray(pixels)), (margin + column * cell_w, top)
            )
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def labelled_sheet(pngs: Sequence[bytes], labels: Sequence[str], *, scale: int = 2) -> bytes:
    """A contact sheet of PNG files, with a row for each label, in the order in which labels come.

    Raises:
        InvalidRequest: no images.
        InvalidFile: a file that is no image of the size of the others.
    """
    rows: dict[str, list[bytes]] = {}
    for png, label in zip(pngs, labels, strict=True):
        rows.setdefault(label, []).append(png)
    pixels = [decode_pngs(own) for own in rows.values()]
    return contact_sheet(pixels, list(rows), scale=scale)
