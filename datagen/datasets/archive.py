"""Unpacking an uploaded archive, which anybody may have made, into a folder of our own."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from datagen.datasets.unzipping import (
    COPY_BYTES,
    WRONG_NAMES,
    Budget,
    checked_name,
    is_zip,
    most_unzipped,
    unpack_zip,
)
from datagen.errors import InvalidFile, StorageFailure

MAX_BYTES = 1 << 40
MAX_ENTRIES = 5_000_000
# What is read whole, from within a tar: no picture is larger.
LARGEST_PICTURE = 256 << 20
# Headers are read whole: none that is honest comes near to this.
_LARGEST_READ = 4 << 20
# Notes that a packed tar may carry, and their length.
MAX_NOTES = 100
MAX_NOTE_LETTERS = 1000
_NOTES_HEADER = "DATAGEN.notes"
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def unpack_archive(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    zip_encoding: str | None = None,
) -> list[str]:
    """Unpack a zip, or a tar, gzipped or not, into an empty folder.

    Only plain files and folders are taken, under names that stay inside; nothing of owners, modes
    or times. Sizes are checked while reading, whatever the headers say.

    Args:
        archive: the file; its first bytes tell what it is.
        folder: an empty folder.
        max_bytes: most bytes that its files may have together. Besides, a compressed archive may
            unzip to 20 times its size, or to 64 MiB if that is more.
        max_entries: most files and folders.
        zip_encoding: of a zip's names, where it does not say that they are UTF-8.

    Returns:
        Sentences about it: those that its packer wrote, and names in no known encoding.

    Raises:
        InvalidFile: not an archive, damaged, harmful, or beyond a limit.
        StorageFailure: the disk is full.
    """
    budget = Budget(max_bytes, max_entries)
    with _damage_named(folder):
        if is_zip(archive):
            return unpack_zip(archive, folder, budget, zip_encoding)
        for member, source in _tar_members(archive, budget):
            _unpack(member, source, folder)
        return _notes_of(archive)


def notes_header(notes: Sequence[str]) -> dict[str, str]:
    """The header by which a packed tar carries notes; see `unpack_archive`."""
    return {_NOTES_HEADER: json.dumps(list(notes)[:MAX_NOTES])} if notes else {}


def _notes_of(archive: Path) -> list[str]:
    with _opened(archive) as file, tarfile.open(fileobj=cast("BinaryIO", file), mode="r:") as tar:
        tar.next()
        text = tar.pax_headers.get(_NOTES_HEADER, "[]")
    notes = json.loads(text)
    if not isinstance(notes, list):
        return []
    return [str(note)[:MAX_NOTE_LETTERS] for note in notes[:MAX_NOTES]]


def tar_files(
    archive: Path, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file of a tar, one after the other, with the limits of unpacking.

    Args:
        archive: the tar, gzipped or not.
        wanted: says by its name whether a file is read; those that are not have no bytes.

    Raises:
        InvalidFile: damaged, harmful, or beyond a limit; or a file too large to be a picture.
    """
    with _damage_named(archive.parent):
        for member, source in _tar_members(archive, Budget(MAX_BYTES, MAX_ENTRIES)):
            if source is None:
                continue
            if member.size > LARGEST_PICTURE:
                raise InvalidFile(
                    f"{archive.name} holds {member.name!r} of {member.size:,} bytes, which is too "
                    "large for a picture."
                )
            checked_name(member.name)
            yield member.name, b"".join(_chunks(source)) if wanted(member.name) else b""


def _tar_members(
    archive: Path, budget: Budget
) -> Iterator[tuple[tarfile.TarInfo, BinaryIO | None]]:
    """The members with what is in them; None for folders."""
    with _opened(archive) as file, tarfile.open(fileobj=cast("BinaryIO", file), mode="r:") as tar:
        for member in _members(tar):
            budget.take(member.size)
            file.allow(member.offset_data + member.size)
            if member.isdir():
                yield member, None
            elif member.type not in _PLAIN or member.sparse is not None:
                raise InvalidFile(
                    f"The archive holds {member.name!r}, which is neither a plain file nor a "
                    "folder."
                )
            else:
                with cast("BinaryIO", tar.extractfile(member)) as source:
                    yield member, source
        _check_end(file, tar.offset)


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(COPY_BYTES):
        yield chunk


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except WRONG_NAMES as error:
        name = Path(error.filename).relative_to(folder)
        raise InvalidFile(f"The archive holds {str(name)!r} more than once.") from error
    except gzip.BadGzipFile as error:
        raise InvalidFile(f"The upload cannot be unzipped: {error}.") from error
    except OSError as error:
        raise StorageFailure(
            f"The upload cannot be unpacked: {error.strerror or error}."
        ) from error
    # tarfile meets damaged headers with errors of several kinds, down to too deep a recursion;
    # zipfile tells a password, and a compression that it cannot undo, by a RuntimeError too.
    except (
        tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, ValueError, ArithmeticError,
        RuntimeError,
    ) as error:  # fmt: skip
        raise InvalidFile(f"The upload is not an archive, or damaged: {error}.") from error


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
                yield _Guarded(file, most_unzipped(size))
        else:
            # A damaged header may point beyond the end; that is for tarfile to find.
            yield _Guarded(raw, sys.maxsize)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        # tarfile remembers each of them; a million would fill the memory.
        tar.members.clear()  # type: ignore[attr-defined]
        yield member


def _unpack(member: tarfile.TarInfo, source: BinaryIO | None, folder: Path) -> None:
    name = checked_name(member.name)
    if not name.parts:
        return
    target = folder / name
    if source is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as copy:
        shutil.copyfileobj(source, copy, COPY_BYTES)


def _check_end(file: _Guarded, offset: int) -> None:
    """A damaged header counts as the end for tarfile; the true end is zeros, and nothing else."""
    file.seek(offset)
    size = 0
    while block := file.read(COPY_BYTES):
        if block.strip(b"\0"):
            raise InvalidFile(f"The upload is not a whole tar file: byte {offset:,} is damaged.")
        size += len(block)
    if size < tarfile.BLOCKSIZE:
        raise InvalidFile(f"The upload is not a whole tar file: it breaks off at byte {offset:,}.")
