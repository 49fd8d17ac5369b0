"""MNIST's IDX files, gzipped or not.

The format is http://yann.lecun.com/exdb/mnist/: big-endian, a magic number that tells the type of
the values and the number of axes, the length of each axis, then the values.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np

from datagen.datasets.limits import check_room
from datagen.errors import InvalidFile
from datagen.images import MAX_SIDE, LabelledImages

IMAGES_MAGIC = 0x0803
LABELS_MAGIC = 0x0801
SPLITS = {"train": "train", "test": "t10k"}
# DEFLATE makes nothing smaller than this: a header that promises more is a lie, and is told so
# before memory is asked for.
_MOST_DEFLATED = 1032
_KINDS = {IMAGES_MAGIC: "images", LABELS_MAGIC: "labels"}


def read_idx_images(path: Path) -> np.ndarray:
    """Grey images of an IDX file, uint8 of shape (N, 1, H, W).

    Raises:
        InvalidFile: not such a file, truncated, longer than it says, damaged, or without pixels.
    """
    values = _values(path, IMAGES_MAGIC)
    if max(values.shape[1:]) > MAX_SIDE:
        raise InvalidFile(
            f"{path.name} has images of {values.shape[2]} x {values.shape[1]} pixels; at most "
            f"{MAX_SIDE} a side are read."
        )
    return values[:, None]


def read_idx_labels(path: Path) -> np.ndarray:
    """Labels of an IDX file, int64 of shape (N,).

    Raises:
        InvalidFile: not such a file, truncated, longer than it says, damaged, or empty.
    """
    return _values(path, LABELS_MAGIC).astype(np.int64)


def idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The image and label files of each split in a folder; empty where there are none.

    A split is read from `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or `t10k-…`; each
    may end in `.gz`, and `.idx3` may stand for `-idx3`. Where both forms lie, the plain one counts.

    Raises:
        InvalidFile: one of a pair is missing.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for split, prefix in SPLITS.items():
        images = _named(folder, f"{prefix}-images", "idx3-ubyte")
        labels = _named(folder, f"{prefix}-labels", "idx1-ubyte")
        if images is not None and labels is not None:
            found[split] = (images, labels)
        elif images is not None or labels is not None:
            there = cast("Path", images or labels).name
            missing = f"{prefix}-labels-idx1-ubyte" if images else f"{prefix}-images-idx3-ubyte"
            raise InvalidFile(f"{there} is there, but {missing} is not; both are needed.")
    return found


def read_mnist(folder: Path) -> dict[str, LabelledImages]:
    """The splits `train` and, where it is there, `test` of a folder with MNIST's files.

    Classes are named by number, from 0 to the highest label of all splits.

    Raises:
        InvalidFile: a file is missing or damaged, or images and labels do not fit together.
    """
    files = idx_files(folder)
    if "train" not in files:
        raise InvalidFile("There is no train-images-idx3-ubyte, with .gz or without.")
    pairs = {split: _pair(images, labels) for split, (images, labels) in files.items()}
    highest = max(int(labels.max()) for _, labels in pairs.values())
    names = tuple(str(label) for label in range(highest + 1))
    return {split: LabelledImages(*pair, names) for split, pair in pairs.items()}


def _pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx_images(images_path), read_idx_labels(labels_path)
    if len(images) != len(labels):
        raise InvalidFile(
            f"{images_path.name} holds {len(images):,} images and {labels_path.name} "
            f"{len(labels):,} labels; they must be as many."
        )
    return images, labels


def _named(folder: Path, start: str, end: str) -> Path | None:
    names = (f"{start}{dash}{end}{gz}" for gz in ("", ".gz") for dash in ("-", "."))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _values(path: Path, magic: int) -> np.ndarray:
    axes = magic & 0xFF
    with _opened(path) as (file, capacity):
        head = file.read(4 + 4 * axes)
        if len(head) < 4 + 4 * axes:
            raise InvalidFile(f"{path.name} ends within its header, after {len(head)} bytes.")
        found, *shape = struct.unpack(f">{1 + axes}I", head)
        if found != magic:
            raise InvalidFile(
                f"{path.name} begins with 0x{found:08x}; IDX {_KINDS[magic]} begin with "
                f"0x{magic:08x}."
            )
        size = math.prod(shape)
        if size == 0:
            raise InvalidFile(f"{path.name} says that its shape is {shape}, which is empty.")
        short = InvalidFile(f"{path.name} says that it holds {size:,} bytes of {_KINDS[magic]}")
        if size > capacity:
            raise _ends_early(short, f"at most {capacity:,} can be in it")
        height, width = shape[1:] or (1, 1)
        check_room(shape[0], (1, height, width))
        values = np.empty(size, dtype=np.uint8)
        filled = _fill(file, values.data)
        if filled < size:
            raise _ends_early(short, f"only {filled:,} are there")
        if file.read(1):
            raise InvalidFile(f"{path.name} goes on after the {size:,} bytes that it should hold.")
    return values.reshape(shape)


def _ends_early(start: InvalidFile, what: str) -> InvalidFile:
    return InvalidFile(f"{start.detail}, but {what}: it is truncated or damaged.")


def _fill(file: io.BufferedIOBase, target: memoryview) -> int:
    filled = 0
    while filled < len(target) and (count := file.readinto(target[filled:])):
        filled += count
    return filled


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedIOBase, int]]:
    """The file, unzipped as it is read, and how many bytes it can hold at most."""
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if zipped:
                with gzip.GzipFile(fileobj=raw) as file:
                    yield file, size * _MOST_DEFLATED
            else:
                yield raw, size
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InvalidFile(f"{path.name} cannot be unzipped: {error}.") from error
