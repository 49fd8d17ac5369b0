"""Unpacking an uploaded tar, which anybody may have made, into a folder of our own."""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from datagen.datasets.limits import check_name
from datagen.errors import InvalidFile, StorageFailure

MAX_BYTES = 32 << 30
MAX_ENTRIES = 5_000_000
# Pictures hardly get smaller, and IDX files to a fifth: what unzips to more than this was made to.
# Small archives may be padded more.
MAX_RATIO = 20
FREE_BYTES = 64 << 20
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
MAX_DEPTH = 16
_COPY_BYTES = 1 << 20
# Headers are read whole: none that is honest comes near to this.
_LARGEST_READ = 4 << 20
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_WRONG_NAMES = (FileExistsError, IsADirectoryError, NotADirectoryError)


@dataclass
class _Budget:
    """What may still come out of the archive."""

    max_bytes: int
    max_entries: int
    bytes: int = 0
    entries: int = 0

    def take(self, size: int) -> None:
        self.entries += 1
        self.bytes += size
        if size < 0 or self.entries > self.max_entries or self.bytes > self.max_bytes:
            raise InvalidFile(
                f"The archive holds more than {self.max_bytes:,} bytes or {self.max_entries:,} "
                "files, or says so; give a smaller dataset."
            )


def unpack_archive(
    archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES
) -> None:
    """Unpack a tar, gzipped or not, into an empty folder.

    Only plain files and folders are taken, under names that stay inside; nothing of owners, modes
    or times. Sizes are checked while reading, whatever the headers say.

    Args:
        archive: the tar.
        folder: an empty folder.
        max_bytes: most bytes that its files may have together. Besides, a gzipped tar may unzip to
            20 times its size, or to 64 MiB if that is more.
        max_entries: most files and folders.

    Raises:
        InvalidFile: not a tar, damaged, harmful, or beyond a limit.
        StorageFailure: the disk is full.
    """
    budget = _Budget(max_bytes, max_entries)
    try:
        with (
            _opened(archive) as file,
            tarfile.open(fileobj=cast("BinaryIO", file), mode="r:") as tar,
        ):
            for member in _members(tar):
                budget.take(member.size)
                file.allow(member.offset_data + member.size)
                _unpack(tar, member, folder)
            _check_end(file, tar.offset)
    except _WRONG_NAMES as error:
        name = Path(error.filename).relative_to(folder)
        raise InvalidFile(f"The archive holds {str(name)!r} more than once.") from error
    except gzip.BadGzipFile as error:
        raise InvalidFile(f"The upload cannot be unzipped: {error}.") from error
    except OSError as error:
        raise StorageFailure(
            f"The upload cannot be unpacked: {error.strerror or error}."
        ) from error
    # tarfile meets damaged headers with errors of several kinds.
    except (
        tarfile.TarError, EOFError, zlib.error, ValueError, ArithmeticError, RecursionError
    ) as error:  # fmt: skip
        raise InvalidFile(f"The upload is not a tar file, or damaged: {error}.") from error


class _Guarded(io.RawIOBase):
    """A file that is read neither in pieces so large nor so far that it would do harm."""

    def __init__(self, file: io.BufferedIOBase, most: int) -> None:
        super().__init__()
        self._file = file
        self._most = most

    def allow(self, position: int) -> None:
        """Refuse to go beyond what an honest archive of this size unzips to."""
        if position > self._most:
            raise InvalidFile(
                f"The archive unzips to more than {self._most:,} bytes, far more than its own "
                "size; send the tar without gzip."
            )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise InvalidFile(f"The archive has a header of {size:,} bytes; that is no honest one.")
        self.allow(self._file.tell())
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.allow(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(archive: Path) -> Iterator[_Guarded]:
    with archive.open("rb") as raw:
        size = archive.stat().st_size
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=raw) as file:
                yield _Guarded(file, max(FREE_BYTES, MAX_RATIO * size))
        else:
            # A damaged header may point beyond the end; that is for tarfile to find.
            yield _Guarded(raw, sys.maxsize)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        # tarfile remembers each of them; a million would fill the memory.
        tar.members.clear()  # type: ignore[attr-defined]
        yield member


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = _checked_name(member.name)
    if not name.parts:
        return
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    if member.type not in _PLAIN or member.sparse is not None:
        raise InvalidFile(
            f"The archive holds {member.name!r}, which is neither a plain file nor a folder."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    source = cast("BinaryIO", tar.extractfile(member))
    with source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)


def _checked_name(name: str) -> PurePosixPath:
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


def _check_end(file: _Guarded, offset: int) -> None:
    """A damaged header counts as the end for tarfile; the true end is zeros, and nothing else."""
    file.seek(offset)
    size = 0
    while block := file.read(_COPY_BYTES):
        if block.strip(b"\0"):
            raise InvalidFile(f"The upload is not a whole tar file: byte {offset:,} is damaged.")
        size += len(block)
    if size < tarfile.BLOCKSIZE:
        raise InvalidFile(f"The upload is not a whole tar file: it breaks off at byte {offset:,}.")
