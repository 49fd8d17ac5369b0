"""What no dataset may go beyond, whichever way it comes."""

from __future__ import annotations

import re

from datagen.errors import InvalidFile

MAX_PIXEL_BYTES = 1 << 40
MAX_NAME_CHARS = 1024
# Control characters, and the halves of characters that stand for bytes which are no UTF-8.
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_name(name: str, what: str) -> None:
    """Refuse a name that cannot be shown, stored in a database, or sent. Raises InvalidFile."""
    if len(name) > MAX_NAME_CHARS:
        raise InvalidFile(
            f"{what} {name[:80]!a}… has {len(name):,} characters in its name; at most "
            f"{MAX_NAME_CHARS:,} are read."
        )
    if _UNSHOWABLE.search(name):
        raise InvalidFile(
            f"{what} {name!a} has characters in its name that cannot be shown; rename it."
        )


def check_room(count: int, shape: tuple[int, ...]) -> None:
    """Refuse more pixels than any dataset may have. Raises InvalidFile.

    Args:
        count: images of the dataset.
        shape: channels, height, width.
    """
    channels, height, width = shape
    size = count * channels * height * width
    if size > MAX_PIXEL_BYTES:
        raise InvalidFile(
            f"{count:,} images of {width} x {height} pixels in {channels} channels take "
            f"{size:,} bytes; a dataset may take {MAX_PIXEL_BYTES:,}, so scale them down."
        )
