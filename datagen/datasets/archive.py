"""Unpacking an uploaded tar, which anybody may have made, into a folder of our own."""

from __future__ import annotations

import gzip
import io
import shutil
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
# Pictures and IDX files hardly get smaller, so what grows beyond this was made to. Small archives
# may be padded more.
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
    entries: int
    bytes: int
    said: str

    def take(self, size: int) -> None:
        self.entries -= 1
        self.bytes -= size
        if size < 0 or self.entries < 0 or self.bytes < 0:
            raise InvalidFile(f"The archive unpacks to more than {self.said}.")


def unpack_archive(
    archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES
) -> None:
    """Unpack a tar, gzipped or not, into an empty folder.

    Only plain files and folders are taken, under names that stay inside; nothing of owners, modes
    or times. Sizes are counted while reading, whatever the headers say.

    Args:
        archive: the tar.
        folder: an empty folder.
        max_bytes: most bytes that it may unpack to; also at most 20 times its own size, where that
            is more than 64 MiB.
        max_entries: most files and folders.

    Raises:
        InvalidFile: not a tar, damaged, harmful, or beyond a limit.
        StorageFailure: the disk is full.
    """
    most = min(max_bytes, max(FREE_BYTES, MAX_RATIO * archive.stat().st_size))
    budget = _Budget(max_entries, most, f"{most:,} bytes or {max_entries:,} files")
    try:
        with (
            _opened(archive) as file,
            tarfile.open(fileobj=cast("BinaryIO", file), mode="r:") as tar,
        ):
            for member in _members(tar):
                budget.take(member.size)
                _unpack(tar, member, folder)
            _check_end(file, tar.offset)
    except _WRONG_NAMES as error:
        name = Path(error.filename).relative_to(folder)
        raise InvalidFile(f"The archive holds {str(name)!r} more than once.") from error
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise InvalidFile(f"The upload cannot be unzipped: {error}.") from error
        raise StorageFailure(
            f"The upload cannot be unpacked: {error.strerror or error}."
        ) from error
    # tarfile meets damaged headers with errors of several kinds.
    except (
        tarfile.TarError,
        EOFError,
        zlib.error,
        ValueError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InvalidFile(f"The upload is not a tar file, or damaged: {error}.") from error


class _Guarded(io.RawIOBase):
    """A file that is never read in pieces so large that they would fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise InvalidFile(f"The archive has a header of {size:,} bytes; that is no honest one.")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(archive: Path) -> Iterator[_Guarded]:
    with archive.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=raw) as file:
                yield _Guarded(cast("BinaryIO", file))
        else:
            yield _Guarded(raw)


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
    """A damaged header counts as the end for tarfile; the true end is a block of zeros."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise InvalidFile(f"The upload is not a whole tar file: it breaks off at byte {offset:,}.")
