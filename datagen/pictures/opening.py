"""Opening a picture: its header alone, and whether it is a single one."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from datagen.errors import InvalidFile
from datagen.images import PNG_SIGNATURE, damage_named

READABLE = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF")
_JPEG = b"\xff\xd8\xff"
_BITMAP = b"BM"
_SIGNATURES = {
    PNG_SIGNATURE: "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF8": "GIF",
    _BITMAP: "BMP",
}
# Enough of a file for `begins_as_picture`.
HEAD_BYTES = 16
_SUBFILE = 254
# A smaller copy, or a mask, of another page.
_BESIDE = 0b101


def opened(data: bytes, name: str, formats: Sequence[str] = READABLE) -> ImageFile:
    """A picture of which only the header was read.

    A JPEG is its first picture, whatever others (a preview, depth, a gain map) lie behind it.

    Raises:
        InvalidFile: no picture of a known kind, or one of more pixels than are ever read.
    """
    with damage_named(name, formats):
        if data.startswith(_JPEG):
            # Pillow's opener would make an MPO, which passes for an animation, of such a file.
            return _jpeg(data, name)
        try:
            return Image.open(io.BytesIO(data), formats=list(formats))
        except UnidentifiedImageError:
            for signature, kind in _SIGNATURES.items():
                if data.startswith(signature):
                    raise InvalidFile(
                        f"{name} is a {kind} file that is damaged, or of a kind of pixels that is "
                        "not read; save it as PNG of 8 or 16 bits."
                    ) from None
            raise


def begins_as_picture(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a picture that is read."""
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    if head.startswith(_BITMAP):
        # Two letters alone would be too little: a bitmap's reserved bytes are zero besides.
        return head[6:10] == b"\0\0\0\0"
    return webp or head.startswith((_JPEG, *_SIGNATURES))


def _jpeg(data: bytes, name: str) -> ImageFile:
    try:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except SyntaxError as error:
        raise InvalidFile(f"{name} is a JPEG that cannot be decoded: {error}.") from None


def check_single(image: ImageFile, name: str) -> bool:
    """Refuse an animation, and a stack of pages.

    Returns:
        Whether more pictures lie behind the first, as an index of them in a JPEG tells, or smaller
        copies and masks as pages of a TIFF.

    Raises:
        InvalidFile: more pictures than one.
        Exception: whatever Pillow raises where the file is damaged.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return "mp" in image.info
    count = getattr(image, "n_frames", 1)
    if count <= 1:
        return False
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        raise InvalidFile(f"{name} is animated; give single pictures.")
    for page in range(count):
        image.seek(page)
        if bool(int(image.tag_v2.get(_SUBFILE, 0)) & _BESIDE) != (page > 0):
            raise InvalidFile(
                f"{name} is a TIFF of {count} pages; save each as a picture of its own."
            )
    image.seek(0)
    return True
