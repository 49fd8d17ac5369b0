"""From an opened picture to an array."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.ImageFile import ImageFile

from datagen.errors import InvalidFile
from datagen.images import PNG_SIGNATURE, image_array
from datagen.pictures.high_bit_depth import DEEP_FORMATS, EXTRA, is_deep, read_deep
from datagen.pictures.picture import ORIENTATION, Picture, checked_orientation, turned

_DEPTH_AT = 24
_PLAIN = frozenset({"L", "RGB"})
_OTHER_COLOURS = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})
_LAID_OVER_WHITE = frozenset({"P", "PA", "LA", "RGBA", "RGBa", "L", "RGB", "1"})


def converted(
    image: ImageFile, data: bytes, name: str, opener: Callable[[bytes], ImageFile]
) -> Picture:
    """The pixels of an opened picture; grey stays grey, all else becomes RGB.

    Args:
        image: opened, and not loaded.
        data: its file.
        name: what it is called where something is wrong with it.
        opener: opens a file of its kind.

    Raises:
        InvalidFile: of pixels that are not read.
        Exception: whatever Pillow raises where the file is damaged.
    """
    tiff = image.format == "TIFF"
    noted = orientation_of(image) if tiff else 1
    if image.format in DEEP_FORMATS and is_deep(image, name):
        found = read_deep(image, data, name, opener)
    else:
        image.load()
        found = _eight_bits(image, data, name)
    # Pillow follows the orientation of a TIFF by itself.
    turn = 1 if tiff or "exif" not in image.info else orientation_of(image)
    changes = found.changes
    if turn > 1 or noted > 1:
        changes |= {"orientation"}
    if "icc_profile" in image.info and has_own_colours(image):
        changes |= {"profile"}
    if changes is found.changes:
        return found
    return Picture(turned(found.pixels, turn), changes, found.values)


_Tiff = TiffImagePlugin.TiffImageFile


def orientation_of(image: ImageFile) -> int:
    """How a camera noted that it was held, from 1 to 8; 1 where it noted nothing that can be."""
    try:
        if isinstance(image, _Tiff):
            found = image.tag_v2.get(ORIENTATION, 1)
        else:
            found = image.getexif().get(ORIENTATION, 1) if image.info.get("exif") else 1
    # Pillow raises whatever a damaged note leads it into; the picture itself is none the worse.
    except Exception:  # noqa: BLE001
        return 1
    return checked_orientation(found)


def has_own_colours(image: ImageFile) -> bool:
    """Whether a picture has a colour profile of its own, which is none of sRGB."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return False
    # Profiles name themselves in ASCII, or in UTF-16.
    return b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile


def _eight_bits(image: ImageFile, data: bytes, name: str) -> Picture:
    mode, clear = image.mode, "transparency" in image.info
    if mode in _PLAIN and not clear:
        return Picture(image_array(image), frozenset())
    if mode == "1" and not clear:
        return Picture(image_array(image.convert("L")), frozenset({"1-bit"}))
    if mode in _OTHER_COLOURS:
        return Picture(image_array(image.convert("RGB")), frozenset({"colours"}))
    if mode == "La":
        # Grey that was multiplied with its opacity, which Pillow makes nothing else of.
        grey, opacity = np.asarray(image).astype(np.uint16).transpose(2, 0, 1)
        mixed = np.minimum(grey + 255 - opacity, 255).astype(np.uint8)
        return Picture(mixed[None], frozenset({"transparency"}))
    if mode == "RGBA" and _alpha_means_nothing(image):
        return Picture(image_array(image.convert("RGB")), frozenset({"no-alpha"}))
    if mode in _LAID_OVER_WHITE:
        if clear and data.startswith(PNG_SIGNATURE):
            _scale_clear_grey(image, data[_DEPTH_AT])
        return _over_white(image)
    raise InvalidFile(
        f"{name} has the pixel mode {mode}; grey, RGB or RGBA of 8 or 16 bits, or a palette, is "
        "read."
    )


def _alpha_means_nothing(image: ImageFile) -> bool:
    """Whether alpha is 0 throughout where files have it from programs that never set it.

    In a BMP it is a byte to fill up with, as it is in a TIFF that does not say what it is; viewers
    show such pictures opaque. Other formats mean it, and what is clear all over is seen as nothing.
    """
    unsaid = image.format in {"BMP", "DIB"} or (
        isinstance(image, _Tiff) and EXTRA not in image.tag_v2
    )
    return unsaid and image.getchannel("A").getextrema() == (0, 0)


def _scale_clear_grey(image: ImageFile, bits: int) -> None:
    """The grey value that is clear, of 1, 2 or 4 bits, as Pillow gives the values around it."""
    clear = image.info["transparency"]
    if image.mode in {"1", "L"} and isinstance(clear, int) and bits < 8:  # noqa: PLR2004
        image.info["transparency"] = clear * 255 // ((1 << bits) - 1)


def _over_white(image: ImageFile) -> Picture:
    grey = image.mode in {"LA", "L", "1"}
    seen_through = image.mode != "P" or "transparency" in image.info
    paint = image.convert("RGBA")
    changes = {"transparency" if seen_through else "palette"}
    if seen_through and paint.getchannel("A").getextrema() == (0, 0):
        changes.add("clear")
    white = Image.new("RGBA", paint.size, (255, 255, 255, 255))
    laid = Image.alpha_composite(white, paint).convert("L" if grey else "RGB")
    return Picture(image_array(laid), frozenset(changes))
