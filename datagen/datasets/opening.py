"""What a folder or a file holds, and its images."""

from __future__ import annotations

from collections.abc import Callable
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
from datagen.datasets.archive import unpack_archive
from datagen.datasets.collecting import collect
from datagen.datasets.imagefolder import has_pictures
from datagen.datasets.limits import full_disk_named
from datagen.datasets.reading import Opened, ReadOptions, ReadReport
from datagen.datasets.source import SPLIT_NAMES, Found
from datagen.datasets.splitting import arrange
from datagen.errors import InvalidFile

# Asked in this order: class folders are the last to be thought of, since much looks like them.
READERS: dict[str, Callable[[Path], Found | None]] = {
    "idx": idx.find,
    "stylegan": stylegan.find,
    "fiftyone": fiftyone.find,
    "tfrecord": tfrecord.find,
    "webdataset": webdataset.find,
    "parquet": parquet.find,
    "npz": npz.find,
    "table": tables.find,
    "imagefolder": imagefolder.find,
}
WANTED = (
    "folders of images named by their class, MNIST's IDX files (train-images-idx3-ubyte and "
    "train-labels-idx1-ubyte, gzipped or not), an NPZ file with images and labels, Parquet files "
    "with an image and a label column, WebDataset tars, or a CSV or JSONL table of file name and "
    "label"
)
_ZIP, _PARQUET, _GZIP = b"PK", b"PAR1", b"\x1f\x8b"


def find_dataset(folder: Path) -> Found | None:
    """The dataset in a folder; where there is only one folder in it, it may be in there.

    So `pets/cat/1.png` and `MNIST/raw/train-images-idx3-ubyte` are found from above.

    Raises:
        InvalidFile: something that is almost a dataset.
    """
    inner = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(inner) == 1 and inner[0].is_dir():
        only = inner[0]
        if only.name.lower() not in SPLIT_NAMES and not has_pictures(only):
            within = find_dataset(only)
            if within is not None:
                return within
    for read in READERS.values():
        found = read(folder)
        if found is not None:
            return found
    return None


def find_alone(path: Path) -> Found | None:
    """A file that means more together with its name and its neighbours. Raises InvalidFile."""
    return stylegan.find_alone(path) or tfrecord.find_alone(path)


def single_file(path: Path) -> bool:
    """Whether a file is a dataset by itself, an archive of one, or neither (False)."""
    with path.open("rb") as file:
        head = file.read(263)
    tar = head[257:262] == b"ustar"
    return tar or head.startswith((_ZIP, _PARQUET, _GZIP))


def open_dataset(source: Path, options: ReadOptions, scratch: Path) -> Opened:
    """The splits of whatever dataset a folder, an archive or a file holds.

    Args:
        source: a folder, a tar or zip of one, an NPZ or a Parquet file; what it is is told by what
            is in it, not by its name.
        options: how to read it.
        scratch: an empty folder on disk; the arrays are maps of files in there, which may be
            removed once the arrays are open.

    Raises:
        InvalidFile: no dataset, or files that cannot be read or do not fit together.
        StorageFailure: the disk is full.
    """
    folder = source if source.is_dir() else _unpacked(source, scratch / "files")
    try:
        found = find_dataset(folder)
    except OSError as error:
        raise InvalidFile(f"The source cannot be read: {error.strerror}.") from error
    if found is None:
        raise InvalidFile(f"This is no dataset. What is read: {WANTED}.")
    report = ReadReport(source=found.kind)
    with full_disk_named():
        collected = collect(found.read(), options, scratch, report)
        return arrange(collected, options, scratch, report)


def _unpacked(path: Path, folder: Path) -> Path:
    """A folder with what a single file holds."""
    folder.mkdir()
    with path.open("rb") as file:
        head = file.read(4)
    if head == _PARQUET:
        (folder / "data.parquet").symlink_to(path.resolve())
    elif head.startswith(_ZIP) and _is_npz(path):
        (folder / "data.npz").symlink_to(path.resolve())
    else:
        unpack_archive(path, folder)
    return folder


def _is_npz(path: Path) -> bool:
    """Whether a zip holds arrays: the name of its first member tells it."""
    with path.open("rb") as file:
        head = file.read(30 + 256)
    length = int.from_bytes(head[26:28], "little")
    return head[30 : 30 + length].endswith(b".npy")
