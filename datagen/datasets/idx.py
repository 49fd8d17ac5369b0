"""MNIST's IDX files, gzipped or not.

The format is http://yann.lecun.com/exdb/mnist/: big-endian, a magic number that tells the type of
the values and the number of axes, the length of each axis, then the values.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datagen.datasets.limits import check_room
from datagen.datasets.listing import Folder
from datagen.datasets.own_export import ClassList, class_list
from datagen.datasets.source import Block, Found, Source, rows_at_once
from datagen.errors import InvalidFile
from datagen.images import MAX_SIDE

IMAGES_MAGIC = 0x0803
LABELS_MAGIC = 0x0801
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
# `emnist-letters-train-images-idx3-ubyte.gz`: whose files they are, the split, and what is in them.
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<split>train|t10k|test)-(?P<kind>images[-.]idx3|labels[-.]idx1)-ubyte"
    r"(?P<zipped>\.gz)?",
    re.IGNORECASE,
)
# Where torchvision keeps the files: `MNIST/raw`, `EMNIST/raw` and so on.
RAW = "raw"
_FAMILIES = frozenset({"MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST"})
# DEFLATE makes nothing smaller than this: a header that promises more is a lie, and is told so
# before memory is asked for.
_MOST_DEFLATED = 1032
_KINDS = {IMAGES_MAGIC: "images", LABELS_MAGIC: "labels"}


def image_pieces(path: Path) -> Iterator[np.ndarray]:
    """Grey images of an IDX file, uint8 of shape (n, 1, H, W), a piece at a time.

    Raises:
        InvalidFile: not such a file, truncated, longer than it says, damaged, or of images without
            pixels.
    """
    for values in _pieces(path, IMAGES_MAGIC):
        if max(values.shape[1:]) > MAX_SIDE:
            raise InvalidFile(
                f"{path.name} has images of {values.shape[2]} x {values.shape[1]} pixels; at most "
                f"{MAX_SIDE} a side are read."
            )
        yield values[:, None]


def read_idx_labels(path: Path) -> np.ndarray:
    """Labels of an IDX file, int64 of shape (N,).

    Raises:
        InvalidFile: not such a file, truncated, longer than it says, or damaged.
    """
    none = np.empty(0, np.uint8)
    return np.concatenate([none, *_pieces(path, LABELS_MAGIC)]).astype(np.int64)


def idx_files(folder: Folder) -> dict[str, tuple[Path, Path]]:
    """The image and label files of each split in a folder; empty where there are none.

    A split is read from `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or `t10k-…`, or
    `test-…`; each may end in `.gz`, `.idx3` may stand for `-idx3`, and all may begin with the name
    of their dataset, as EMNIST's do. Where both forms lie, the plain one counts.

    Raises:
        InvalidFile: one of a pair is missing, or the files are of more than one dataset.
    """
    parts = _parts(folder)
    prefixes = sorted({prefix for prefix, _, _ in parts})
    if len(prefixes) > 1:
        shown = ", ".join(next(parts[key].name for key in parts if key[0] == it) for it in prefixes)
        raise InvalidFile(
            f"The IDX files are of several datasets, such as {shown}; keep those of one, in a "
            "folder by themselves."
        )
    found: dict[str, tuple[Path, Path]] = {}
    for prefix, word in dict.fromkeys((prefix, word) for prefix, word, _ in parts):
        images, labels = (parts.get((prefix, word, kind)) for kind in ("images", "labels"))
        if images is None or labels is None:
            there = (images or labels or folder.path).name
            missing = "labels-idx1" if images else "images-idx3"
            raise InvalidFile(
                f"{there} is there, but {prefix}{word}-{missing}-ubyte is not; both are needed."
            )
        if _SPLITS[word] in found:
            raise InvalidFile(
                f"{found[_SPLITS[word]][0].name} and {images.name} both hold the split "
                f"{_SPLITS[word]}; keep one of them."
            )
        found[_SPLITS[word]] = (images, labels)
    return {split: found[split] for split in ("train", "test") if split in found}


def _parts(folder: Folder) -> dict[tuple[str, str, str], Path]:
    """The files by the prefix, the split and the kind that their names tell."""
    found: dict[tuple[str, str, str], tuple[bool, str, Path]] = {}
    for name in folder.files:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        path = folder.path / name
        key = (match["prefix"].lower(), match["split"].lower(), match["kind"][:6].lower())
        own = (match["zipped"] is not None, path.name, path)
        found[key] = min(found.get(key, own), own)
    return {key: path for key, (_, _, path) in sorted(found.items(), reverse=True)}


def find(root: Folder) -> Found | None:
    """MNIST's files in a folder, or where torchvision keeps them below it. Raises InvalidFile."""
    families = [family for name in sorted(_FAMILIES) if (family := root.inner(name))]
    raw = [folder for around in (root, *families) if (folder := around.inner(RAW))]
    places = [(folder, files) for folder in (root, *raw) if (files := idx_files(folder))]
    if not places:
        return None
    if len(places) > 1:
        shown = " and ".join(folder.relative(root.path) for folder, _ in places)
        raise InvalidFile(f"There are IDX files in {shown}; give the folder of one of them.")
    folder, files = places[0]
    if "train" not in files:
        raise InvalidFile("There is no train-images-idx3-ubyte, with .gz or without.")
    top, classes = _class_list(root.path, folder.path)
    members = [path for pair in files.values() for path in pair]
    return Found("idx", top, [*members, *classes.files], lambda: _source(files, classes.names))


def _class_list(root: Path, folder: Path) -> tuple[Path, ClassList]:
    """The names beside the files, or where our export has them: in the folder round `MNIST/raw`.

    Returns:
        the folder that holds both names and files, and the names.
    """
    beside = class_list(folder, "idx")
    if beside.names is not None or folder.name != RAW or folder.parent.name not in _FAMILIES:
        return root, beside
    above = folder.parents[1]
    found = class_list(above, "idx")
    return (root, beside) if found.names is None else (above, found)


def _source(files: dict[str, tuple[Path, Path]], given: tuple[str, ...] | None) -> Source:
    labels = {split: read_idx_labels(path) for split, (_, path) in files.items()}
    highest = max((int(numbers.max()) for numbers in labels.values() if len(numbers)), default=0)
    if given is not None and highest >= len(given):
        raise InvalidFile(
            f"The labels go up to {highest}, and {len(given):,} classes are named; name them all, "
            "from the one with the number 0 on."
        )
    names = given or tuple(str(label) for label in range(highest + 1))
    return Source(_blocks(files, labels, names), names)


def _blocks(
    files: dict[str, tuple[Path, Path]], labels: dict[str, np.ndarray], names: tuple[str, ...]
) -> Iterator[Block]:
    for split, (images_path, labels_path) in files.items():
        own, done = labels[split].tolist(), 0
        count = _shape(images_path, IMAGES_MAGIC)[0]
        if count != len(own):
            raise InvalidFile(
                f"{images_path.name} holds {count:,} images and {labels_path.name} "
                f"{len(own):,} labels; they must be as many."
            )
        for images in image_pieces(images_path):
            part = [names[label] for label in own[done : done + len(images)]]
            yield Block(images, part, split, images_path.name, done)
            done += len(images)


def _shape(path: Path, magic: int) -> list[int]:
    with _opened(path) as (file, _):
        return _read_head(file, path, magic)


def _read_head(file: io.BufferedIOBase, path: Path, magic: int) -> list[int]:
    axes = magic & 0xFF
    head = file.read(4 + 4 * axes)
    if len(head) < 4 + 4 * axes:
        raise InvalidFile(f"{path.name} ends within its header, after {len(head)} bytes.")
    found, *shape = struct.unpack(f">{1 + axes}I", head)
    if found != magic:
        raise InvalidFile(
            f"{path.name} begins with 0x{found:08x}; IDX {_KINDS[magic]} begin with 0x{magic:08x}."
        )
    if shape[0] and math.prod(shape) == 0:
        raise InvalidFile(f"{path.name} says that its shape is {shape}, which is empty.")
    return shape


def _pieces(path: Path, magic: int) -> Iterator[np.ndarray]:
    """The values, uint8, so many rows at a time that memory stays bounded."""
    with _opened(path) as (file, capacity):
        shape = _read_head(file, path, magic)
        size = math.prod(shape)
        short = InvalidFile(f"{path.name} says that it holds {size:,} bytes of {_KINDS[magic]}")
        if size > capacity:
            raise _ends_early(short, f"at most {capacity:,} can be in it")
        height, width = shape[1:] or (1, 1)
        check_room(shape[0], (1, height, width))
        at_once, filled = rows_at_once(tuple(shape[1:])), 0
        for start in range(0, shape[0], at_once):
            rows = min(at_once, shape[0] - start)
            values = np.empty((rows, *shape[1:]), dtype=np.uint8)
            filled += _fill(file, values.reshape(-1).data)
            if filled < (start + rows) * (size // shape[0]):
                raise _ends_early(short, f"only {filled:,} are there")
            yield values
        if file.read(1):
            raise InvalidFile(f"{path.name} goes on after the {size:,} bytes that it should hold.")


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
