"""Pictures with too many pixels to be decoded whole, read small.

A JPEG is decoded at a half, a quarter or an eighth of its sides; a PNG and a TIFF in bands of rows.
One such picture is read at a time, so that the memory that it takes is never taken twice.
"""

from __future__ import annotations

import threading

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from datagen.errors import InvalidFile
from datagen.images import MAX_PIXELS, MAX_SMALL_PIXELS, MAX_SMALL_SIDE
from datagen.pictures.converting import converted, has_own_colours, orientation_of
from datagen.pictures.opening import check_single, opened
from datagen.pictures.picture import Picture, turned
from datagen.pictures.png_bands import png_bands, png_orientation
from datagen.pictures.shrinking import SPARE, Shrunk, small_size
from datagen.pictures.tiff_bands import HEIGHT, WIDTH, tiff_bands

# Bytes of the coefficients that a JPEG of several scans has in memory until the last one is read.
MAX_COEFFICIENTS = 256 << 20
_START_OF_SCAN = b"\xff\xda"
_one_at_a_time = threading.Lock()


def read_large(image: ImageFile, data: bytes, name: str, side: int) -> Picture:
    """A picture of up to 268 million pixels, at some size above a side.

    Args:
        image: opened, and not loaded.
        data: its file.
        name: what it is called where something is wrong with it.
        side: that it becomes afterwards, in pixels.

    Raises:
        InvalidFile: larger still, damaged, or of a kind that is decoded whole only.
        Exception: whatever Pillow raises where the file is damaged.
    """
    width, height = image.size
    if max(width, height) > MAX_SMALL_SIDE or width * height > MAX_SMALL_PIXELS:
        raise InvalidFile(
            f"{name} is {width} x {height} pixels; at most {MAX_SMALL_SIDE:,} a side and "
            f"{MAX_SMALL_PIXELS:,} in all are read, even where they become small."
        )
    with _one_at_a_time:
        more = check_single(image, name)
        if isinstance(image, JpegImageFile):
            found = _drafted(image, data, name, side)
        else:
            found = _in_bands(image, data, name, side)
    return Picture(found.pixels, found.changes | ({"first"} if more else set()), found.values)


def _drafted(image: JpegImageFile, data: bytes, name: str, side: int) -> Picture:
    """A JPEG decoded at a part of its sides, of which its format has the means."""
    width, height = image.size
    coefficients = _coefficients(image, data)
    if coefficients > MAX_COEFFICIENTS:
        raise InvalidFile(
            f"{name} is a progressive JPEG of {width} x {height} pixels, of which "
            f"{coefficients:,} bytes would be in memory; save it as a baseline one."
        )
    fits = [part for part in (1, 2, 4, 8) if width * height <= MAX_PIXELS * part * part]
    wide = [part for part in fits if min(width, height) >= SPARE * side * part]
    part = wide[-1] if wide else fits[0]
    image.draft(image.mode, (width // part, height // part))
    return converted(image, data, name, lambda again: opened(again, name))


def _coefficients(image: JpegImageFile, data: bytes) -> int:
    """Bytes of what a decoder keeps of a JPEG of several scans; 0 for one of a single scan."""
    # The header ends with that of the first scan, which says of how many colours it is.
    start = data.rfind(_START_OF_SCAN, 0, image.fp.tell() if image.fp else 0)
    single = data[start + 4 : start + 5] == bytes((image.layers,))
    if single and "progressive" not in image.info:
        return 0
    widest = max(layer[1] for layer in image.layer)
    highest = max(layer[2] for layer in image.layer)
    shares = [layer[1] * layer[2] / (widest * highest) for layer in image.layer]
    return int(2 * image.width * image.height * sum(shares))


def _in_bands(image: ImageFile, data: bytes, name: str, side: int) -> Picture:
    if image.format == "PNG":
        bands, orientation = png_bands(data, name), png_orientation(data)
    elif isinstance(image, TiffImageFile):
        bands, orientation = tiff_bands(image, data, name), orientation_of(image)
    else:
        width, height = image.size
        raise InvalidFile(
            f"{name} is a {image.format} of {width} x {height} pixels; of pictures that large only "
            "JPEG, PNG and TIFF are read, so save it as one of them."
        )
    shrunk = Shrunk(_size_of(image), small_size(_size_of(image), side))
    for band in bands:
        part = opened(band, name)
        shrunk.add(converted(part, band, name, lambda again: opened(again, name)))
    found = shrunk.picture()
    changes = found.changes | ({"orientation"} if orientation > 1 else set())
    changes |= {"profile"} if has_own_colours(image) else set()
    return Picture(turned(found.pixels, orientation), changes, found.values)


def _size_of(image: ImageFile) -> tuple[int, int]:
    """Width and height as the rows of the file have them, before any orientation."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[WIDTH], image.tag_v2[HEIGHT]
    return image.size
