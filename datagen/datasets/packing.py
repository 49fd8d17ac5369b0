"""Packing labelled images for the way to the server."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from datagen.datasets.archive import notes_header
from datagen.datasets.detect import ARCHIVE, WANTED, find_alone, find_dataset
from datagen.datasets.failures import library_errors_named
from datagen.datasets.opening import single_file
from datagen.datasets.source import Found
from datagen.datasets.table_rows import TEXT_TABLE_ENDINGS
from datagen.errors import InvalidFile, StorageFailure


def pack(source: Path, out: Path) -> None:
    """Write what is sent for a source: an uncompressed tar of a folder's dataset, or the file.

    Of a folder the files of the dataset are packed and no others, with notes of what was left out.
    The same files give the same bytes: owners, times and modes are left out.

    Args:
        source: a folder with a dataset of any kind that is read; a CSV or JSONL file beside its
            pictures; or a single file: a zip, a tar, an NPZ or a Parquet file.
        out: where it is written.

    Raises:
        InvalidFile: the source is nothing of that, or one of its files cannot be read.
        StorageFailure: the file cannot be written, for want of space for example.
    """
    source = source.expanduser()
    if source.suffix.lower() in TEXT_TABLE_ENDINGS and source.is_file():
        source = source.absolute().parent
    try:
        with library_errors_named():
            # Of these the name and what lies beside them say more than what is in them.
            found = find_alone(source) if source.is_file() else None
            if found is None and source.is_file():
                _copy(source, out)
                return
            if found is None and not source.is_dir():
                raise InvalidFile(
                    f"{source} does not exist; give a folder or file of labelled images."
                )
            found = found or find_dataset(source)
    except OSError as error:
        raise InvalidFile(f"{error.filename} cannot be read: {error.strerror}.") from error
    if found is None:
        raise InvalidFile(f"{source} is no dataset. What is read: {WANTED}.")
    if found.kind == ARCHIVE:
        _copy(found.members[0], out)
        return
    try:
        _write(found, out)
    except OSError as error:
        raise StorageFailure(f"{source} cannot be packed: {error.strerror or error}.") from error


def _copy(source: Path, out: Path) -> None:
    if not single_file(source):
        raise InvalidFile(f"{source} is no dataset. What is read: {WANTED}.")
    try:
        # A file as large as the dataset need not be there twice.
        out.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, out)


def _write(found: Found, out: Path) -> None:
    headers = notes_header(found.notes)
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        for path in found.members:
            _add(archive, path.relative_to(found.root).as_posix(), path)


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    member = tarfile.TarInfo(name)
    if path.is_dir():
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        member.size = path.stat().st_size
        archive.addfile(member, file)
