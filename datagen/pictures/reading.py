"""Reading a picture that a user brings."""

from __future__ import annotations

from dataclasses import replace

from datagen.errors import InvalidFile
from datagen.images import damage_named, is_large, too_large_message
from datagen.pictures.converting import converted
from datagen.pictures.large import read_large
from datagen.pictures.opening import check_single, opened
from datagen.pictures.picture import Picture
from datagen.pictures.room import BYTES_A_PIXEL, DECODING


def read_picture(data: bytes, name: str, *, small: int | None = None) -> Picture:
    """A picture that a user brings; grey stays grey, all else becomes RGB.

    Transparency of 8 bits is laid over white, and the orientation that a camera noted is followed.
    Of a JPEG with more pictures in it the first is read, and of a TIFF with smaller copies.

    Args:
        data: the file.
        name: what it is called where something is wrong with it.
        small: the side that it becomes afterwards. A picture that is too large to be decoded
            whole is read at some size not far above that; without it, it is refused.

    Raises:
        InvalidFile: not a picture, damaged, animated, of several pages, or too large.
    """
    image = opened(data, name)
    with damage_named(name):
        if is_large(image.size):
            if small is None:
                raise InvalidFile(
                    f"{too_large_message(image.size, name)}; give a size, such as 32, with which "
                    "larger ones are read too."
                )
            return read_large(image, data, name, small)
        width, height = image.size
        with DECODING.of(width * height * BYTES_A_PIXEL):
            more = check_single(image, name)
            found = converted(image, data, name, lambda again: opened(again, name))
    return replace(found, changes=found.changes | {"first"}) if more else found
