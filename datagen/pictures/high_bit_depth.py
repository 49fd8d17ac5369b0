"""Pictures of more than 8 bits a value, which Pillow keeps whole only where they are grey.

Of 16-bit colour Pillow keeps the upper byte of each value. The lower bytes come from decoding the
file once more, as if its values were in the other order of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from PIL import TiffImagePlugin
from PIL.ImageFile import ImageFile

from datagen.errors import InvalidFile
from datagen.images import PNG_SIGNATURE, png_chunk
from datagen.pictures.picture import Picture

PHOTOMETRIC, PLANAR, BITS, SAMPLE_FORMAT, EXTRA = 262, 284, 258, 339, 338
_SEPARATE = 2
_SIGNED = 2
_RGBA = 6
DEEP_FORMATS = frozenset({"PNG", "TIFF"})
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
_WHITE = 65535

Opener = Callable[[bytes], ImageFile]


def is_deep(image: ImageFile, name: str) -> bool:
    """Whether an opened PNG or TIFF has more than 8 bits a value; CMYK counts as 8.

    Raises:
        InvalidFile: a TIFF of 16-bit colour, each in a plane of its own.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return True
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if tags.get(PLANAR) == _SEPARATE and max(tags.get(BITS, (8,))) > 8:  # noqa: PLR2004
            raise InvalidFile(
                f"{name} has 16 bits a value and its colours in separate planes, which is not "
                "read; save it with interleaved colours."
            )
    return image.mode in {"RGB", "RGBA"} and _raw_mode(image).split(";")[-1].startswith("16")


def _raw_mode(image: ImageFile) -> str:
    if not image.tile:
        return ""
    args = image.tile[0].args or ("",)
    return str(args if isinstance(args, str) else args[0])


def read_deep(image: ImageFile, data: bytes, name: str, opener: Opener) -> Picture:
    """The values of a picture of more than 8 bits, as they are.

    Args:
        image: opened, and not loaded.
        data: its file.
        name: what it is called where something is wrong with it.
        opener: opens a file of its kind.

    Raises:
        InvalidFile: a layout that cannot be read.
    """
    raw = _raw_mode(image)
    transparent = image.info.get("transparency")
    if image.mode == "RGBA" and raw.startswith("LA"):
        values = _grey_and_alpha(data, opener)
    elif image.mode in {"RGB", "RGBA"}:
        values = colours_of_16_bits(image, data, raw, opener)
    else:
        return _single(image, name, transparent)
    if raw.startswith("RGBa"):
        return _picture(_divided(values))
    return _with_clear(values, transparent, "uint16")


def colours_of_16_bits(image: ImageFile, data: bytes, raw: str, opener: Opener) -> np.ndarray:
    """Values of 16 bits in colour, uint16 of shape (C, H, W)."""
    # What was multiplied with its opacity is to stay so.
    plain = raw.replace("RGBa", "RGBA")
    values = _loaded(image, plain).astype(np.uint16)
    values <<= 8
    values |= _loaded(opener(data), plain[:-1] + _OTHER_ORDER[plain[-1]])
    return values.transpose(2, 0, 1)


def _loaded(image: ImageFile, raw: str) -> np.ndarray:
    tiles = image.tile
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in tiles
    ]
    return np.asarray(image)


def _grey_and_alpha(data: bytes, opener: Opener) -> np.ndarray:
    """Grey and opacity of 16 bits: in bytes they are laid out as RGBA of 8 bits is."""
    head = bytearray(data[16:29])
    head[8:10] = bytes((8, _RGBA))
    again = PNG_SIGNATURE + png_chunk(b"IHDR", bytes(head)) + data[33:]
    found = np.asarray(opener(again)).astype(np.uint16)
    return np.stack([found[..., 0] << 8 | found[..., 1], found[..., 2] << 8 | found[..., 3]])


def _single(image: ImageFile, name: str, transparent: object) -> Picture:
    """Grey values of 16 or 32 bits, or fractions."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    inverted = tags.get(PHOTOMETRIC) == 0
    values = np.asarray(image)[None]
    kind = "uint16"
    if image.mode == "F":
        kind = "float32"
    elif image.mode == "I":
        bits = cast("tuple[int, ...]", tags.get(BITS, (16,)))[0]
        signed = cast("tuple[int, ...]", tags.get(SAMPLE_FORMAT, (1,)))[0] == _SIGNED
        kind = f"{'' if signed else 'u'}int{bits}"
        values = values if signed else values.view(np.uint32)
    values = values.astype(kind)
    if inverted and kind != "uint16":
        raise InvalidFile(
            f"{name} has white at 0 in values of type {kind}, which do not tell where black is; "
            "save it with black at 0."
        )
    return _with_clear(_WHITE - values if inverted else values, transparent, kind)


def _with_clear(values: np.ndarray, transparent: object, kind: str) -> Picture:
    """With opacity from 0 to 1 as the last channel, where there is any."""
    if len(values) in {2, 4}:
        found = values.astype(np.float32)
        found[-1] /= _WHITE
        return _picture(found, kind)
    if not isinstance(transparent, int | tuple):
        return Picture(values, frozenset(), kind)
    clear = np.array(transparent, dtype=np.int64).reshape(-1, 1, 1)
    shown = np.any(values != clear, axis=0, keepdims=True).astype(np.float32)
    return _picture(np.concatenate([values.astype(np.float32), shown]), kind)


def _divided(values: np.ndarray) -> np.ndarray:
    """Colours that were multiplied with their opacity, as they were before."""
    opacity = values[-1:].astype(np.float32) / _WHITE
    colours = np.minimum(values[:-1] / np.maximum(opacity, 1 / _WHITE), _WHITE)
    return np.concatenate([colours.astype(np.float32), opacity])


def _picture(values: np.ndarray, kind: str = "uint16") -> Picture:
    changes = {"transparency"} if values[-1].any() else {"transparency", "clear"}
    return Picture(values, frozenset(changes), kind)
