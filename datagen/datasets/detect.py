"""What dataset a folder holds: decided here, for client and server, folders and archives alike.

docs/decisions/0026-layouts-are-recognised-or-refused.md states the rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from datagen.datasets import (
    fiftyone,
    idx,
    imagefolder,
    npz,
    parquet,
    stylegan,
    tables,
    tfrecord,
    webdataset,
)
from datagen.datasets.imagefolder import refuse_beside_classes
from datagen.datasets.listing import Folder, is_document, list_folder
from datagen.datasets.own_export import SIDECARS, own_export
from datagen.datasets.source import Found, Source
from datagen.datasets.unsupported_layouts import no_labels
from datagen.errors import InvalidFile
from datagen.wording import listed

ARCHIVE = "archive"
WANTED = (
    "folders of images named by their class, MNIST's IDX files (train-images-idx3-ubyte and "
    "train-labels-idx1-ubyte, gzipped or not), an NPZ file with images and labels, Parquet files "
    "with an image and a label column, WebDataset tars, TFRecord files, StyleGAN's and FiftyOne's "
    "datasets, or a table (CSV, JSON, JSONL) of file name and label"
)
# Files that are a dataset by themselves, each kind of which needs no folder to name a class.
FILE_READERS: Mapping[str, Callable[[Folder], Found | None]] = {
    "idx": idx.find,
    "stylegan": stylegan.find,
    "fiftyone": fiftyone.find,
    "tfrecord": tfrecord.find,
    "webdataset": webdataset.find,
    "parquet": parquet.find,
    "npz": npz.find,
}
NAMED_ARCHIVES = 5
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_NOT_UNPACKED = (".rar", ".7z", ".tar.bz2", ".tar.xz", ".tar.zst")


def find_dataset(path: Path) -> Found | None:
    """The dataset in a folder, or in the only folder or archive within it; None if there is none.

    Raises:
        InvalidFile: something that is almost a dataset, or evidence of two.
        OSError: a folder cannot be read.
    """
    return find_in(list_folder(path))


def find_in(folder: Folder) -> Found | None:
    """The dataset in a listed folder; see `find_dataset`."""
    own = own_export(folder.path)
    if own is not None:
        folder.files = [name for name in folder.files if name not in SIDECARS]
        folder.pictures = [name for name in folder.pictures if name not in SIDECARS]
    found = _in_files(folder, own.format if own is not None else None)
    if found is not None:
        return found
    found, notes = tables.find(folder)
    if found is None:
        with _tables_named(notes):
            found = imagefolder.find(folder)
    if found is None:
        inner = _only_folder(folder)
        found = find_in(inner) if inner is not None else None
    if found is None:
        found = _only_archive(folder)
    if found is None and folder.picture_count:
        with _tables_named(notes):
            raise no_labels(folder, [] if folder.pictures else folder.folders[:1])
    if found is None:
        return None
    return dataclasses.replace(found, notes=[*notes, *found.notes])


@contextmanager
def _tables_named(notes: Sequence[str]) -> Iterator[None]:
    """Say in a refusal which tables were looked at, and why they were not used."""
    try:
        yield
    except InvalidFile as error:
        raise InvalidFile(" ".join([error.detail, *notes])) from error


def find_alone(path: Path) -> Found | None:
    """A file that means more together with its name and its neighbours. Raises InvalidFile."""
    return stylegan.find_alone(path) or tfrecord.find_alone(path)


def _in_files(folder: Folder, kind: str | None) -> Found | None:
    """The dataset that files of one kind are, or of the given kind, where that is known.

    Raises:
        InvalidFile: files of two kinds.
    """
    readers = [read for name, read in FILE_READERS.items() if kind in {None, name}]
    found = [own for read in readers if (own := read(folder)) is not None]
    if len(found) > 1:
        names = " and ".join(f"{own.members[0].name!r} ({own.kind})" for own in found)
        raise InvalidFile(
            f"The folder holds {names}, each of which could be the dataset; keep one of them there."
        )
    if not found:
        return None
    refuse_beside_classes(folder, found[0].members)
    return found[0]


def _only_folder(folder: Folder) -> Folder | None:
    """The one folder that may hold the dataset: with pictures, or else with files of data."""
    pictured = [inner for inner in folder.folders if inner.picture_count]
    if pictured:
        return pictured[0] if len(pictured) == 1 else None
    filled = [inner for inner in folder.folders if _has_data(inner)]
    return filled[0] if len(filled) == 1 else None


def _has_data(folder: Folder) -> bool:
    return any(not is_document(name) for inner in folder.walk() for name in inner.files)


def _only_archive(folder: Folder) -> Found | None:
    """The one archive in a folder without a dataset. Raises InvalidFile where there are several."""
    archives = _ending(folder, _ARCHIVES)
    others = _ending(folder, _NOT_UNPACKED)
    if len(archives) == 1 and not folder.picture_count:
        path = folder.path / archives[0]
        return Found(ARCHIVE, folder.path, [path], _nothing_to_read)
    if folder.picture_count or not (archives or others):
        return None
    names = listed(archives + others, NAMED_ARCHIVES)
    if archives:
        raise InvalidFile(
            f"The folder holds the archives {names} and no other dataset; give one of them, or "
            "unpack them into folders named train, validation and test."
        )
    raise InvalidFile(f"Archives such as {names} are not unpacked; send a zip or a tar.")


def _ending(folder: Folder, endings: Sequence[str]) -> list[str]:
    return [name for name in folder.files if name.lower().endswith(tuple(endings))]


def _nothing_to_read() -> Source:
    raise AssertionError("an archive is unpacked before it is read")
