"""What a reader of a format gives: where the files are, and images in pieces.

A reader is a function `find(root)` that says whether a folder holds its kind of dataset. It opens
nothing but what it needs to know that; `Found.read` then gives the images, a piece at a time, so
that no dataset has to fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
# Files that are handed on together.
ENTRIES_AT_ONCE = 512
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
    """

    kind: str
    root: Path
    members: Sequence[Path]
    read: Callable[[], Source]


def in_chunks(entries: Iterator[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries, many at a time."""
    waiting: list[Entry] = []
    for entry in entries:
        waiting.append(entry)
        if len(waiting) == ENTRIES_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def split_of(name: str) -> str | None:
    """The split that a file or folder is named after: `train-00000-of-00002.parquet`, `val`."""
    first = name.lower().replace("_", "-").replace(".", "-").split("-", 1)[0]
    return SPLIT_NAMES.get(first.rstrip("0123456789"))


def rows_at_once(shape: tuple[int, ...]) -> int:
    """Images of a shape that make a block."""
    size = 1
    for side in shape:
        size *= side
    return max(1, BLOCK_BYTES // max(1, size))
