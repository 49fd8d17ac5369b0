"""What is kept of every file that is written, in bounded memory: size, hashes and place."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, NamedTuple

from datagen.errors import InvalidRequest

COPY_BYTES = 1 << 20
MAX_PATH_BYTES = 4096
_RECORD = struct.Struct("<QIQI32s")


class Entry(NamedTuple):
    """A file that was written.

    Attributes:
        path: relative, with forward slashes.
        bytes: its size.
        sha256: of its bytes, hexadecimal.
        crc32: of its bytes.
        offset: where they begin in the archive; 0 for a file of its own.
    """

    path: str
    bytes: int
    sha256: str
    crc32: int
    offset: int


class Entries:
    """What is known of each file, in a temporary file."""

    def __init__(self) -> None:
        self._file = spooled()
        self.count = 0

    def add(self, path: str, size: int, crc: int, offset: int, digest: bytes) -> None:
        """Note a file that is finished."""
        name = path.encode()
        if len(name) > MAX_PATH_BYTES:
            raise InvalidRequest(
                f"The path {path[:80]!r}… of a file has {len(name)} bytes; at most "
                f"{MAX_PATH_BYTES} are written."
            )
        self._file.write(_RECORD.pack(size, crc, offset, len(name), digest) + name)
        self.count += 1
        self.last = Entry(path, size, digest.hex(), crc, offset)

    def __iter__(self) -> Iterator[Entry]:
        self._file.seek(0)
        data, at = b"", 0
        for _ in range(self.count):
            # In blocks: two reads a record take longer than all else that is done with it.
            if len(data) - at < _RECORD.size + MAX_PATH_BYTES:
                data, at = data[at:] + self._file.read(COPY_BYTES), 0
            size, crc, offset, length, digest = _RECORD.unpack_from(data, at)
            at += _RECORD.size + length
            yield Entry(data[at - length : at].decode(), size, digest.hex(), crc, offset)
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Let go of the temporary file."""
        self._file.close()


class Counted:
    """What a sink says of the files that it has."""

    _entries: Entries

    @property
    def count(self) -> int:
        """How many files are finished."""
        return self._entries.count

    @property
    def last(self) -> Entry:
        """The file that was finished last."""
        return self._entries.last

    def entries(self) -> Iterator[Entry]:
        """The files so far, in the order in which they were finished."""
        return iter(self._entries)


class Measured(io.RawIOBase, BinaryIO):
    """A file to write to, which measures what passes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.crc = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Pass the bytes on, and count them."""
        self._sha256.update(data)
        self.crc = zlib.crc32(data, self.crc)
        self._file.write(data)
        self.size += len(data)
        return len(data)

    def digest(self) -> bytes:
        """The SHA-256 of what was written, 32 bytes."""
        return self._sha256.digest()


def spooled() -> IO[bytes]:
    """A temporary file with a buffer."""
    return tempfile.TemporaryFile(buffering=COPY_BYTES)
