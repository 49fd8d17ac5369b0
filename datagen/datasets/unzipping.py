"""Unpacking zips, and what zips and tars have in common: names, limits, budgets."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from datagen.datasets.limits import check_name
from datagen.datasets.zip_names import NameDecoder
from datagen.errors import InvalidFile

# Pictures hardly get smaller, and IDX files to a fifth: what unzips to more than this was made to.
# Small archives may be padded more.
MAX_RATIO = 20
FREE_BYTES = 64 << 20
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
MAX_DEPTH = 16
COPY_BYTES = 1 << 20
WRONG_NAMES = (FileExistsError, IsADirectoryError, NotADirectoryError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
# A directory's entry takes this much and its name; zipfile reads all of them into memory.
_ENTRY_BYTES = 46
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 1 << 16
# What stands where a number has no room: the record of zip64 holds it.
_IN_ZIP64 = (0xFFFF, 0xFFFFFFFF)


@dataclass
class Budget:
    """What may still come out of an archive."""

    max_bytes: int
    max_entries: int
    bytes: int = 0
    entries: int = 0

    def take(self, size: int) -> None:
        """Count one more file of so many bytes. Raises InvalidFile beyond a limit."""
        self.entries += 1
        self.bytes += size
        if size < 0 or self.entries > self.max_entries or self.bytes > self.max_bytes:
            raise InvalidFile(
                f"The archive holds more than {self.max_bytes:,} bytes or {self.max_entries:,} "
                "files, or its directory says so; give a smaller dataset."
            )


def most_unzipped(size: int) -> int:
    """Bytes that an honest archive of so many bytes unzips to at most."""
    return max(FREE_BYTES, MAX_RATIO * size)


def is_zip(path: Path) -> bool:
    """Whether a file begins as zips do."""
    with path.open("rb") as file:
        return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}


def unpack_zip(
    archive: Path, folder: Path, budget: Budget, encoding: str | None = None
) -> list[str]:
    """Unpack a zip into an empty folder; see `unpack_archive`. Raises InvalidFile."""
    names = NameDecoder(encoding)
    most = most_unzipped(archive.stat().st_size)
    with archive.open("rb") as file:
        check_directory(file, budget.max_entries)
        with zipfile.ZipFile(file) as opened:
            for member in opened.infolist():
                _check_member(member)
                budget.take(member.file_size)
                if budget.bytes > most:
                    raise InvalidFile(
                        f"The archive unzips to more than {most:,} bytes, far more than its own "
                        "size; send it without compression."
                    )
                _unpack(opened, member, names.name_of(member), folder)
    return names.notes()


def check_directory(file: BinaryIO, max_entries: int) -> None:
    """Refuse a directory too large to be read, before zipfile reads it. Raises InvalidFile."""
    file.seek(0, 2)
    end = file.tell()
    start = max(0, end - _END.size - _LONGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END.size:
        raise InvalidFile("The upload is not a whole zip file: its directory is missing.")
    fields = _END.unpack_from(tail, found)
    entries, size = fields[4], fields[5]
    at = start + found - 20 - _END_64.size
    if _IN_ZIP64[0] in fields[3:5] or _IN_ZIP64[1] in fields[5:7]:
        file.seek(max(0, at))
        head = file.read(_END_64.size)
        if len(head) == _END_64.size and head.startswith(b"PK\x06\x06"):
            fields = _END_64.unpack(head)
            entries, size = fields[7], fields[8]
    if max(entries, size // _ENTRY_BYTES) > max_entries:
        raise InvalidFile(
            f"The archive holds more than {max_entries:,} files, or its directory says so; "
            "give a smaller dataset."
        )
    file.seek(0)


def _check_member(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise InvalidFile(
            f"The archive holds {member.filename!r}, which is neither a plain file nor a folder."
        )
    if member.flag_bits & _ENCRYPTED:
        raise InvalidFile(f"The archive holds {member.filename!r} encrypted; send it without.")
    if member.compress_type not in _METHODS:
        raise InvalidFile(
            f"The archive holds {member.filename!r} compressed by a method that is not read; use "
            "deflate or none."
        )


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, called: str, folder: Path) -> None:
    name = checked_name(called)
    if not name.parts:
        return
    target = folder / name
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as copy:
        _copy(source, copy, member)


def _copy(source: IO[bytes], copy: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Copy as many bytes as the directory says, and no more; zipfile checks the sum."""
    shutil.copyfileobj(source, copy, COPY_BYTES)
    if copy.tell() != member.file_size:
        raise InvalidFile(
            f"The archive's {member.filename!r} has {copy.tell():,} bytes and should have "
            f"{member.file_size:,}."
        )


def checked_name(name: str) -> PurePosixPath:
    """A name that stays inside the folder that it is unpacked into. Raises InvalidFile."""
    check_name(name, "The archive's file")
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or len(path.parts) > MAX_DEPTH
        or len(name.encode()) > MAX_NAME_BYTES
        or any(len(part.encode()) > MAX_PART_BYTES for part in path.parts)
    ):
        raise InvalidFile(
            f"The archive holds the name {name[:200]!r}; only short relative names without '..' "
            "are taken."
        )
    return path
