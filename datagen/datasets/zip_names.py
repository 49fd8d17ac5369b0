"""Names in zips, which not every program marks as UTF-8.

APPNOTE 6.3, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT: bit 11 of the flags says
that a name is UTF-8; without it, it is cp437, as on the first PCs. Programs on Macs, Unix and on
Windows in other languages write their own encoding without the bit.
"""

from __future__ import annotations

import struct
import zipfile
import zlib

from datagen.errors import InvalidFile
from datagen.wording import listed

NAMED = 5
_UTF8 = 0x800
# The extra field of Info-ZIP: a name in UTF-8 beside the one that old programs read.
_UNICODE_PATH = 0x7075
_FIELD = struct.Struct("<HH")
_PATH_HEAD = struct.Struct("<BL")


class NameDecoder:
    """Decodes the names of a zip's members, and remembers those whose encoding nothing says."""

    def __init__(self, encoding: str | None = None) -> None:
        self._encoding = encoding
        self._doubtful: list[str] = []
        self._count = 0

    def name_of(self, member: zipfile.ZipInfo) -> str:
        """The name of a member.

        Raises:
            InvalidFile: the encoding that was given cannot decode it.
        """
        # zipfile decodes by cp437, which has a letter for each byte, so nothing is lost.
        if member.flag_bits & _UTF8 or member.orig_filename.isascii():
            return member.filename
        raw = member.orig_filename.encode("cp437")
        if self._encoding is not None:
            try:
                return raw.decode(self._encoding)
            except UnicodeDecodeError as error:
                raise InvalidFile(
                    f"The archive's name {member.filename[:80]!r} is not in the encoding "
                    f"{self._encoding}: {error.reason}; give another --zip-encoding."
                ) from None
        unicode_path = _unicode_path(member.extra, raw)
        if unicode_path is not None:
            return unicode_path
        try:
            # Text in any other encoding is UTF-8 by accident hardly ever.
            return raw.decode()
        except UnicodeDecodeError:
            self._count += 1
            if len(self._doubtful) < NAMED:
                self._doubtful.append(member.filename)
            return member.filename

    def notes(self) -> list[str]:
        """A sentence about the names that may be wrong, if there are any."""
        if not self._count:
            return []
        sentence = (
            f"The zip does not say how its names are encoded; {self._count:,} were read as cp437, "
            f"such as {listed(self._doubtful)}. If they are wrong, name the encoding: "
            "--zip-encoding cp932, gbk, cp1252 …"
        )
        return [sentence]


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    at = 0
    while at + _FIELD.size <= len(extra):
        kind, size = _FIELD.unpack_from(extra, at)
        body = extra[at + _FIELD.size : at + _FIELD.size + size]
        at += _FIELD.size + size
        if kind != _UNICODE_PATH or len(body) < _PATH_HEAD.size:
            continue
        version, checksum = _PATH_HEAD.unpack_from(body)
        # A name that was changed since by a program that does not know the field counts.
        if version == 1 and checksum == zlib.crc32(raw):
            try:
                return body[_PATH_HEAD.size :].decode()
            except UnicodeDecodeError:
                return None
    return None
