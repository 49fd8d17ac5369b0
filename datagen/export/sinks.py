"""Where an export's files go: a folder, or a zip archive.

Both keep size and SHA-256 of every file, in a temporary file rather than in memory: an export of
ten million images has ten million of them.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Protocol, Self

from datagen.export.measuring import COPY_BYTES, Counted, Entries, Entry, Measured, spooled

# The zip format: APPNOTE 6.3.10 of PKWARE, sections 4.3.7 to 4.3.16 and 4.5.3.
LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
LOCAL_MARK, CENTRAL_MARK = b"PK\3\4", b"PK\1\2"
_MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
_VERSION, _VERSION_64 = 20, 45
_UNIX = 3 << 8
UTF8_NAME = 1 << 11
ZIP64 = 1
# 1 January 1980, the format's first day: the same files give the same archive.
_DATE, _TIME = 1 << 5 | 1, 0
_MODE = 0o100644 << 16


class Sink(Protocol):
    """Takes the files of an export, each once, under relative paths with forward slashes."""

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file."""

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Write a file piece by piece; it is there when the context ends without an error."""

    @property
    def count(self) -> int:
        """How many files are finished."""

    @property
    def last(self) -> Entry:
        """The file that was finished last."""

    def entries(self) -> Iterator[Entry]:
        """The files so far, in the order in which they were finished."""

    def close(self) -> None:
        """Finish; nothing can be written any more."""


class FolderSink(Counted):
    """Files in a folder, which is made if need be. A file that is there already is an error."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: set[str] = set()
        self._entries = Entries()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        with self._created(path) as file:
            file.write(data)
        self._entries.add(path, len(data), zlib.crc32(data), 0, hashlib.sha256(data).digest())

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Write a file piece by piece."""
        with self._created(path) as file:
            measured = Measured(file)
            yield measured
        self._entries.add(path, measured.size, measured.crc, 0, measured.digest())

    def close(self) -> None:
        """Finish; nothing can be written any more."""
        self._entries.close()

    def _created(self, path: str) -> IO[bytes]:
        folder = path.rpartition("/")[0]
        if folder not in self._made:
            (self._root / folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        return open(f"{self._root}/{path}", "xb", buffering=0)  # noqa: PTH123 - a Path a file costs as much as the file


class ZipSink(Counted):
    """A zip archive, streamed: nothing is read back or sought, so any writable file will do.

    Members are stored, not deflated: PNG and Parquet do not get smaller. The headers are written
    here because `zipfile` keeps an object of about a kilobyte for each member until the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries = Entries()
        self._central = spooled()
        self._position = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        # After an error the archive stays without its end, so that nobody takes it for whole.
        if failure is None:
            self.close()
        self._release()

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        crc = zlib.crc32(data)
        header = self._begin(path, len(data), crc)
        self._file.write(header + data)
        start = self._position + len(header)
        self._position = start + len(data)
        self._entries.add(path, len(data), crc, start, hashlib.sha256(data).digest())

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Write a file piece by piece."""
        # A stored member tells its length before its bytes: they wait until it is known.
        with spooled() as spool:
            measured = Measured(spool)
            yield measured
            header = self._begin(path, measured.size, measured.crc)
            self._file.write(header)
            spool.seek(0)
            shutil.copyfileobj(spool, self._file, COPY_BYTES)
        start = self._position + len(header)
        self._position = start + measured.size
        self._entries.add(path, measured.size, measured.crc, start, measured.digest())

    def close(self) -> None:
        """Write the archive's directory; the file itself stays open."""
        if self._closed:
            return
        self._closed = True
        count, start, size = self._entries.count, self._position, self._central.tell()
        self._central.seek(0)
        shutil.copyfileobj(self._central, self._file, COPY_BYTES)
        if count >= _MAX16 or start >= MAX32 or size >= MAX32:
            self._file.write(
                _END64.pack(
                    b"PK\6\6", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start
                )
                + _END64_LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
            )
        counted, sized, started = min(count, _MAX16), min(size, MAX32), min(start, MAX32)
        self._file.write(_END.pack(b"PK\5\6", 0, 0, counted, counted, sized, started, 0))
        self._release()

    def _begin(self, path: str, size: int, crc: int) -> bytes:
        """A member's local header; its entry in the directory is noted."""
        name, offset = path.encode(), self._position
        large, far = size >= MAX32, offset >= MAX32
        version = _VERSION_64 if large or far else _VERSION
        sizes = (size, size) if large else ()
        shown = MAX32 if large else size
        common = (version, UTF8_NAME, 0, _TIME, _DATE, crc, shown, shown, len(name))
        extra = _extra(sizes)
        local = LOCAL.pack(LOCAL_MARK, *common, len(extra)) + name + extra
        extra = _extra((*sizes, offset) if far else sizes)
        rest = (len(extra), 0, 0, 0, _MODE, min(offset, MAX32))
        self._central.write(
            _CENTRAL.pack(CENTRAL_MARK, _UNIX | version, *common, *rest) + name + extra
        )
        return local

    def _release(self) -> None:
        self._closed = True
        self._central.close()
        self._entries.close()


def _extra(numbers: tuple[int, ...]) -> bytes:
    """The zip64 field, for what 32 bits do not hold."""
    if not numbers:
        return b""
    return struct.pack(f"<2H{len(numbers)}Q", ZIP64, 8 * len(numbers), *numbers)
