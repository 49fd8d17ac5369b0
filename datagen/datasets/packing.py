"""Packing a folder of labelled images for the way to the server."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from datagen.datasets.idx import idx_files
from datagen.datasets.imagefolder import find_images
from datagen.datasets.opening import WANTED, dataset_root
from datagen.errors import InvalidFile, StorageFailure


def pack(source: Path, out: Path) -> None:
    """Write the files of a dataset, and no others, into an uncompressed tar.

    The same files give the same bytes: owners, times and modes are left out.

    Args:
        source: a tree of class folders with images, or a folder with MNIST's IDX files.
        out: the tar.

    Raises:
        InvalidFile: the source is neither, or one of its files cannot be read.
        StorageFailure: the tar cannot be written, for want of space for example.
    """
    source = source.expanduser()
    if not source.is_dir():
        raise InvalidFile(f"{source} is not a folder; give one with labelled images.")
    try:
        root = dataset_root(source)
        members = dict(_members(root))
    except OSError as error:
        raise InvalidFile(f"{error.filename} cannot be read: {error.strerror}.") from error
    if not members:
        raise InvalidFile(f"{source} is no dataset: it holds neither {WANTED}.")
    try:
        with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
            for name, path in members.items():
                _add(archive, name, path)
    except OSError as error:
        raise StorageFailure(f"{source} cannot be packed: {error.strerror or error}.") from error


def _members(root: Path) -> Iterator[tuple[str, Path]]:
    """Names in the tar with the files behind them; class folders too, for one may be empty."""
    pairs = idx_files(root)
    if pairs:
        yield from ((path.name, path) for pair in pairs.values() for path in pair)
        return
    for classes in find_images(root).values():
        for folder, files in classes.items():
            yield from ((path.relative_to(root).as_posix(), path) for path in (folder, *files))


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
