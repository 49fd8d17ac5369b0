"""Unpacking a downloaded export: checked names, a folder beside the target, then one rename."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datagen.errors import InvalidFile, InvalidRequest, StorageFailure
from datagen.export.manifest import MANIFEST, problems, safe_name
from datagen.export.measuring import COPY_BYTES
from datagen.export.sinks import CENTRAL_MARK, LOCAL, LOCAL_MARK, MAX32, UTF8_NAME, ZIP64
from datagen.scratch import scratch_beside

NAMED_PROBLEMS = 3
_STORED = 0


def check_free(out: Path, *, overwrite: bool = False) -> None:
    """Refuse a target that holds something.

    With `overwrite` a former export there may be replaced, and nothing else.

    Raises:
        InvalidRequest: `out` exists and is not an empty folder.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise InvalidRequest(
            f"{out} is no folder; name one that is empty or not there yet.", field="out"
        )
    if overwrite and (out / MANIFEST).is_file():
        return
    raise InvalidRequest(
        f"{out} is not empty; name a folder that is empty or not there yet.", field="out"
    )


def unpack(archive: Path, out: Path, *, overwrite: bool = False) -> None:
    """Unpack an export so that `out` becomes its root, and check every file against the manifest.

    Raises:
        InvalidRequest: `out` holds something.
        InvalidFile: the archive is damaged, holds unsafe names, or differs from its manifest.
        StorageFailure: the files cannot be written.
    """
    check_free(out, overwrite=overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(out) as folder:
            incoming = folder / "export"
            incoming.mkdir()
            _extract(archive, incoming)
            if wrong := problems(incoming, NAMED_PROBLEMS):
                raise InvalidFile("The export is damaged: " + " ".join(wrong))
            if out.exists():
                shutil.rmtree(out)
            incoming.replace(out)
    except OSError as error:
        raise StorageFailure(
            f"The export cannot be unpacked to {out}: {error.strerror or error}."
        ) from error


def _extract(archive: Path, folder: Path) -> None:
    made = {folder}
    try:
        with archive.open("rb") as file:
            for name, size in _members(file):
                target = folder / name
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                with target.open("xb") as copy:
                    _copy(file, copy, size)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidFile(f"The export's archive is damaged: {error}.") from error


def _members(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Names and sizes, one after the other; the file then stands at the first byte of each.

    Read as `ZipSink` wrote them, since `zipfile` keeps an object for each of a million members.
    Whatever the archive's directory says beside, only plain files come out of this.
    """
    while (mark := _exactly(file, len(LOCAL_MARK))) == LOCAL_MARK:
        rest = _exactly(file, LOCAL.size - len(mark))
        _, _, flags, method, _, _, _, packed, size, letters, extras = LOCAL.unpack(mark + rest)
        raw = _exactly(file, letters)
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise InvalidFile(f"The archive holds the unsafe name {raw!r}.") from None
        if not safe_name(name):
            raise InvalidFile(f"The archive holds the unsafe name {name!r}.")
        extra = _exactly(file, extras)
        if size == MAX32:
            packed = size = _large(extra)
        # An export has plain files, stored as they are: nothing can grow while it is read.
        if method != _STORED or flags & ~UTF8_NAME or packed != size:
            raise InvalidFile(f"The archive holds {name!r} in a way that no export does.")
        yield name, size
    if mark != CENTRAL_MARK:
        raise InvalidFile("The export's archive is damaged: its directory is missing.")


def _large(extra: bytes) -> int:
    """The size that 32 bits do not hold, from the zip64 field."""
    if len(extra) < struct.calcsize("<2HQ") or extra[:2] != struct.pack("<H", ZIP64):
        raise InvalidFile("The export's archive is damaged: a large file's size is missing.")
    size: int = struct.unpack_from("<Q", extra, 4)[0]
    return size


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise InvalidFile("The export's archive is damaged: it ends too early.")
    return data


def _copy(file: BinaryIO, copy: BinaryIO, size: int) -> None:
    while size:
        data = _exactly(file, min(size, COPY_BYTES))
        copy.write(data)
        size -= len(data)
