"""What a reader of a format gives: where the files are, and images in pieces.

A reader is a function `find(root)` that says whether a listed folder holds its kind of
dataset. It opens nothing but what it needs to know that; `Found.read` then gives the images, a
piece at a time, so that no dataset has to fit into memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datagen.datasets.listing import Folder

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
# Words that say nothing beside the name of a split: `train_images`, `seg_train`, `TestSet`.
_PLAIN_WORDS = frozenset(
    {
        "set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures",
        "pics", "photos", "jpg", "jpeg", "png", "files", "file", "folder", "dir", "seg",
        "my", "final", "full",
    }
)  # fmt: skip
_WORD = re.compile(r"t10k|[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_GLUED = re.compile(r"(.+?)(?:set|data|images|imgs|img)")
# Names of the one folder that holds the pictures, and of no class.
NEVER_CLASSES = frozenset({"images", "image", "imgs", "img", "jpegimages"})
# These only where no other class lies beside them.
CONTAINER_NAMES = NEVER_CLASSES | frozenset(
    {"pictures", "pics", "data", "dataset", "jpg", "jpeg", "jpgs", "png", "pngs", "frames"}
)
# Files that are handed on together.
ENTRIES_AT_ONCE = 512
BYTES_AT_ONCE = 64 << 20
# Pixels that are handed on together, in bytes.
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture file.

    Attributes:
        name: what it is called where something is wrong with it.
        label: name of its class; None where there is none.
        data: the file's bytes, or where they are.
        split: `train`, `validation` or `test`, if the data came with one.
        problem: what is wrong with it, if that is known already.
        file: name of the picture's file, where that is another than `name`.
    """

    name: str
    label: str | None
    data: bytes | Path
    split: str | None = None
    problem: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Block:
    """Decoded images of one split.

    Attributes:
        images: (n, C, H, W), C being 1, 3, or 4 where the last is opacity: grey values as uint8, or
            numbers of another type, the range of which is found for the whole dataset.
        labels: the name of each one's class.
        split: `train`, `validation` or `test`, if the data came with one.
        name: of the array or file that they stand in.
        first: the place of the first of them in it.
    """

    images: np.ndarray
    labels: Sequence[str]
    split: str | None = None
    name: str = "The file"
    first: int = 0


Piece = Sequence[Entry] | Block


@dataclass(frozen=True)
class Source:
    """A dataset that is about to be read.

    Attributes:
        pieces: its images.
        class_names: the classes in their order, where the source tells it; else they are in the
            order of their names.
        notes: sentences for the report, which readers add to while they read.
    """

    pieces: Iterator[Piece]
    class_names: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """A dataset of a kind in a folder.

    Attributes:
        kind: name of the format.
        root: the folder that it lies in.
        members: the files, and empty class folders, that it consists of.
        read: begins to read it.
        notes: sentences about what lies there besides, and was left out.
    """

    kind: str
    root: Path
    members: Sequence[Path]
    read: Callable[[], Source]
    notes: Sequence[str] = ()


def in_chunks(entries: Iterator[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries, many at a time, but not more bytes at once than memory has room for."""
    waiting: list[Entry] = []
    held = 0
    for entry in entries:
        waiting.append(entry)
        held += len(entry.data) if isinstance(entry.data, bytes) else 0
        if len(waiting) == ENTRIES_AT_ONCE or held > BYTES_AT_ONCE:
            yield waiting
            waiting, held = [], 0
    if waiting:
        yield waiting


def words_of(name: str) -> list[str]:
    """The words of a name: `trainA` and `train_A` are `train` and `A`."""
    return _WORD.findall(name)


def split_of(name: str) -> str | None:
    """The split that a file is named after: `train-00000-of-00002.parquet`, `cifar_test.tar`.

    A name with the words of two splits (`train_val`) is that of none.
    """
    found = splits_in(name)
    return found.pop() if len(found) == 1 else None


def splits_in(name: str) -> set[str]:
    """The splits that words of a name mean."""
    return {split for split in map(_split_word, words_of(name)) if split is not None}


def split_of_folder(name: str) -> str | None:
    """The split that a folder is named after: `val`, `train2017`, `01_train`, `TestSet`.

    All other words in it must be such as say nothing: `train_station` is no split.
    """
    words = words_of(name)
    others = [word for word in words if _split_word(word) is None]
    return split_of(name) if all(word.lower() in _PLAIN_WORDS for word in others) else None


def _split_word(word: str) -> str | None:
    lower = word.lower()
    glued = _GLUED.fullmatch(lower)
    return SPLIT_NAMES.get(lower) or (SPLIT_NAMES.get(glued[1]) if glued else None)


def split_of_path(path: Path, root: Path) -> str | None:
    """The split that a file, or else the nearest folder around it below `root`, is named after."""
    own = split_of(path.name)
    if own is not None:
        return own
    for folder in path.relative_to(root).parents:
        named = split_of_folder(folder.name)
        if named is not None:
            return named
    return None


def split_folders(root: Folder) -> list[tuple[Folder, str]]:
    """The folders in a folder that are named like splits, each with its split."""
    named = ((folder, split_of_folder(folder.name)) for folder in root.folders)
    return [(folder, split) for folder, split in named if split is not None]


def rows_at_once(shape: tuple[int, ...]) -> int:
    """Images of a shape that make a block."""
    size = 1
    for side in shape:
        size *= side
    return max(1, BLOCK_BYTES // max(1, size))
