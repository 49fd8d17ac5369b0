"""Opening whatever dataset a folder, an archive or a file holds."""

from __future__ import annotations

import zipfile
from pathlib import Path

from datagen.datasets.archive import MAX_ENTRIES, unpack_archive
from datagen.datasets.collecting import collect
from datagen.datasets.detect import ARCHIVE, WANTED, find_dataset
from datagen.datasets.failures import full_disk_named, library_errors_named
from datagen.datasets.reading import Opened, ReadOptions, ReadReport
from datagen.datasets.source import Found
from datagen.datasets.splitting import arrange
from datagen.datasets.unzipping import check_directory, is_zip
from datagen.datasets.webdataset import holds_samples
from datagen.errors import InvalidFile

_ZIP, _PARQUET, _GZIP = b"PK", b"PAR1", b"\x1f\x8b"
# An archive may hold one, as a download does that was zipped for sending.
MAX_ARCHIVES = 3


def single_file(path: Path) -> bool:
    """Whether a file is a dataset by itself, an archive of one, or neither (False)."""
    with path.open("rb") as file:
        head = file.read(263)
    tar = head[257:262] == b"ustar"
    return tar or head.startswith((_ZIP, _PARQUET, _GZIP))


def open_dataset(source: Path, options: ReadOptions, scratch: Path) -> Opened:
    """The splits of whatever dataset a folder, an archive or a file holds.

    Args:
        source: a folder, a tar or zip of one, an NPZ or a Parquet file. Its kind is decided by its
            content, not by its name.
        options: how to read it.
        scratch: an empty folder on disk; the arrays are maps of files in there, which may be
            removed once the arrays are open.

    Raises:
        InvalidFile: no dataset, or files that cannot be read or do not fit together.
        StorageFailure: the disk is full.
    """
    with full_disk_named(), library_errors_named():
        found, notes = _found(source, options, scratch)
        report = ReadReport(source=found.kind, notes=list(dict.fromkeys([*notes, *found.notes])))
        collected = collect(found.read(), options, scratch, report)
        return arrange(collected, options, scratch, report)


def _found(source: Path, options: ReadOptions, scratch: Path) -> tuple[Found, list[str]]:
    """The dataset, and notes of the archives that it was in."""
    notes: list[str] = []
    for number in range(MAX_ARCHIVES):
        folder = source
        if not source.is_dir():
            folder = scratch / f"files-{number}"
            notes += _unpack(source, folder, options.zip_encoding)
        try:
            found = find_dataset(folder)
        except OSError as error:
            raise InvalidFile(f"The source cannot be read: {error.strerror}.") from error
        if found is None:
            raise InvalidFile(f"This is no dataset. What is read: {WANTED}.")
        if found.kind != ARCHIVE:
            return found, notes
        source = found.members[0]
    raise InvalidFile(
        f"The source holds an archive in an archive in an archive, {source.name!r}; unpack it."
    )


def _unpack(path: Path, folder: Path, zip_encoding: str | None) -> list[str]:
    """Fill a folder with what a single file holds; gives notes about it."""
    folder.mkdir()
    with path.open("rb") as file:
        head = file.read(4)
    if head == _PARQUET:
        (folder / "data.parquet").symlink_to(path.resolve())
    elif head.startswith(_ZIP) and _is_npz(path):
        (folder / "data.npz").symlink_to(path.resolve())
    elif not is_zip(path) and holds_samples(path):
        (folder / "data.tar").symlink_to(path.resolve())
    else:
        return unpack_archive(path, folder, zip_encoding=zip_encoding)
    return []


def _is_npz(path: Path) -> bool:
    """Whether a zip holds arrays and nothing else; the name of its first member comes first."""
    with path.open("rb") as file:
        head = file.read(30 + 256)
        length = int.from_bytes(head[26:28], "little")
        if not head[30 : 30 + length].endswith(b".npy"):
            return False
        try:
            check_directory(file, MAX_ENTRIES)
            with zipfile.ZipFile(file) as archive:
                return all(name.endswith(".npy") for name in archive.namelist())
        except (InvalidFile, zipfile.BadZipFile, EOFError):
            # Its reader says what is wrong with it.
            return True
