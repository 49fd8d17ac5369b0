"""Collecting the images of a source in a file on disk, whatever pieces they come in."""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datagen.datasets.limits import check_name, check_room
from datagen.datasets.names import Names, NameWriter
from datagen.datasets.pixels import PADDED, RESIZED, decoded, fitted
from datagen.datasets.reading import LISTED_PROBLEMS, ReadOptions, ReadReport
from datagen.datasets.source import Block, Entry, Source
from datagen.errors import InvalidFile
from datagen.images import Picture
from datagen.schemas import SPLITS

NAMED_PROBLEMS = 5
MAX_CLASSES = 100_000
NO_SPLIT = -1
# Pictures that one thread decodes in a row: handing over costs as much as a small picture.
_RUN = 64
_COPY_IMAGES = 4096
# As many digits as 64 bits hold: longer ones are names, and cost much to be compared as numbers.
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_DONE = {
    "transparency": "Images with transparency, which was laid over white: {}.",
    "16-bit": "Images with 16 bits a value, which were brought to 8: {}.",
    "palette": "Images with a palette, which became RGB: {}.",
    "orientation": "Images turned as their EXIF orientation says: {}.",
    "colours": "Images of other colours than grey or RGB, which became RGB: {}.",
    "1-bit": "Images with one bit a pixel, which became grey: {}.",
    RESIZED: "Images brought to another size: {}.",
    PADDED: "Images brought to another size, and filled up at the edges: {}.",
}


@dataclass(frozen=True)
class Collected:
    """All images of a source, as they came.

    Attributes:
        images: uint8 (N, C, H, W), the map of a file.
        labels: int64 (N,), numbers of `class_names`.
        splits: int8 (N,), numbers of `SPLITS`; -1 where the data came without.
        class_names: in their order.
        names: what each image was called: its file, or an array or file with the place in it.
    """

    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    class_names: tuple[str, ...]
    names: Names


def collect(source: Source, options: ReadOptions, scratch: Path, report: ReadReport) -> Collected:
    """Read all pieces of a source into one file of a folder.

    Raises:
        InvalidFile: images that cannot be read (with `on_error` fail), that differ in size, or
            none at all.
    """
    path = scratch / "images"
    with (
        path.open("w+b") as file,
        (scratch / "names").open("w+b") as names,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        collector = _Collector(file, NameWriter(names), options, report, pool)
        for piece in source.pieces:
            collector.add(piece)
        collector.check_sizes()
        report.notes += source.notes
        return collector.finish(path, source.class_names)


@dataclass
class _Collector:
    file: BinaryIO
    names: NameWriter
    options: ReadOptions
    report: ReadReport
    pool: ThreadPoolExecutor
    shape: tuple[int, ...] | None = None
    first: str = ""
    labels: array[int] = field(default_factory=lambda: array("q"))
    splits: array[int] = field(default_factory=lambda: array("b"))
    numbers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def add(self, piece: Sequence[Entry] | Block) -> None:
        """Take some images."""
        if isinstance(piece, Block):
            self._add_block(piece)
        else:
            self._add_entries(piece)

    def _add_block(self, block: Block) -> None:
        images = block.images
        if self.options.size is not None and images.shape[2:] != (self.options.size,) * 2:
            found = [fitted(image, self.options.size, pad=self.options.pad) for image in images]
            images = np.stack([pixels for pixels, _ in found])
            self.done.update(change for _, changes in found for change in changes)
        if self._fits(images.shape[1:], block.name):
            self._write(images)
            self._note(block.labels, [block.split] * len(images))
            places = range(block.first, block.first + len(images))
            self.names.add(f"{block.name}[{place}]" for place in places)

    def _add_entries(self, entries: Sequence[Entry]) -> None:
        kept: list[np.ndarray] = []
        owners: list[Entry] = []
        for entry, picture in zip(entries, self._decoded(entries), strict=True):
            if isinstance(picture, InvalidFile):
                self._refuse(entry.name, picture.detail)
                continue
            if not self._fits(picture.pixels.shape, entry.name):
                continue
            self.done.update(picture.changes)
            kept.append(picture.pixels)
            owners.append(entry)
        if kept and self.shape is not None:
            # Numpy spreads one grey channel over the three of a colour dataset.
            images = np.empty((len(kept), *self.shape), dtype=np.uint8)
            for number, pixels in enumerate(kept):
                images[number] = pixels
            self._write(images)
            self._note([str(entry.label) for entry in owners], [entry.split for entry in owners])
            self.names.add(entry.file or entry.name for entry in owners)

    def _decoded(self, entries: Sequence[Entry]) -> Iterator[Picture | InvalidFile]:
        runs = [entries[start : start + _RUN] for start in range(0, len(entries), _RUN)]
        for found in self.pool.map(self._decode_run, runs):
            yield from found

    def _decode_run(self, entries: Sequence[Entry]) -> list[Picture | InvalidFile]:
        found: list[Picture | InvalidFile] = []
        for entry in entries:
            try:
                found.append(decoded(entry, self.options))
            except InvalidFile as error:
                found.append(error)
        return found

    def _refuse(self, name: str, reason: str) -> None:
        if self.options.on_error == "skip":
            self.report.skipped_count += 1
            if len(self.report.skipped) < LISTED_PROBLEMS:
                self.report.skipped.append({"name": name, "reason": reason})
            return
        self.problems.append(reason)
        if len(self.problems) == NAMED_PROBLEMS:
            self._tell()

    def _tell(self) -> None:
        hint = "Mend or remove them, or leave such files out with on_error skip."
        raise InvalidFile(" ".join([*self.problems, hint]))

    def _fits(self, shape: tuple[int, ...], name: str) -> bool:
        """Whether an image is of the others' size; colour may come among grey ones."""
        if self.shape is None:
            self.shape, self.first = shape, f"{name} is {_size(shape)}"
        if shape[1:] != self.shape[1:]:
            self.sizes.append(f"{name} is {_size(shape)}")
            if len(self.sizes) == NAMED_PROBLEMS:
                self.check_sizes()
            return False
        if shape[0] > self.shape[0]:
            self._to_colour()
        return True

    def _to_colour(self) -> None:
        """Give the grey images so far three channels, from the last to the first, in place."""
        assert self.shape is not None  # noqa: S101 - for the type checker
        grey, self.shape = self.shape, (3, *self.shape[1:])
        count = len(self.labels)
        self.done["grey"] += count
        size = grey[1] * grey[2]
        for start in range((count - 1) // _COPY_IMAGES * _COPY_IMAGES, -1, -_COPY_IMAGES):
            rows = min(_COPY_IMAGES, count - start)
            self.file.seek(start * size)
            images = np.frombuffer(self.file.read(rows * size), np.uint8).reshape(rows, *grey)
            self.file.seek(3 * start * size)
            self.file.write(np.repeat(images, 3, axis=1).tobytes())
        self.file.seek(0, os.SEEK_END)

    def _write(self, images: np.ndarray) -> None:
        assert self.shape is not None  # noqa: S101 - for the type checker
        check_room(len(self.labels) + len(images), self.shape)
        if images.shape[1:] != self.shape:
            self.done["grey"] += len(images)
            images = np.broadcast_to(images, (len(images), *self.shape))
        self.file.write(np.ascontiguousarray(images).data)

    def _note(self, labels: Sequence[str], splits: Sequence[str | None]) -> None:
        for name in labels:
            if name not in self.numbers:
                check_name(name, "The class")
                self.numbers[name] = len(self.numbers)
                if len(self.numbers) > MAX_CLASSES:
                    raise InvalidFile(
                        f"There are more than {MAX_CLASSES:,} classes; is the label column right?"
                    )
            self.labels.append(self.numbers[name])
        self.splits.extend(NO_SPLIT if name is None else SPLITS.index(name) for name in splits)

    def check_sizes(self) -> None:
        """Refuse what differs in size or could not be read. Raises InvalidFile."""
        if self.problems:
            self._tell()
        if self.sizes:
            raise InvalidFile(
                f"The images are not of one size: {self.first}, but {', '.join(self.sizes)} "
                "pixels. Bring them to one with a size such as 32, padded or not."
            )

    def finish(self, path: Path, given: tuple[str, ...] | None) -> Collected:
        """What was collected, as the map of its file."""
        if self.shape is None or not len(self.labels):
            skipped = self.report.skipped
            because = f": {skipped[0]['reason']}" if skipped else "."
            raise InvalidFile(f"The dataset has no image that can be read{because}")
        names = class_order(list(self.numbers)) if given is None else given
        unknown = [name for name in self.numbers if name not in set(names)]
        if unknown:
            raise InvalidFile(
                f"The label {unknown[0][:80]!r} is not among the {len(names)} classes that the "
                "dataset names."
            )
        for name in names:
            check_name(name, "The class")
        place = {name: number for number, name in enumerate(names)}
        order = np.array([place[name] for name in self.numbers], dtype=np.int64)
        self._tell_done()
        self.file.flush()
        shape = (len(self.labels), *self.shape)
        return Collected(
            images=np.asarray(np.memmap(path, np.uint8, mode="c", shape=shape)),
            labels=order[np.frombuffer(self.labels, np.int64)],
            splits=np.frombuffer(self.splits, np.int8),
            class_names=names,
            names=self.names.finish(),
        )

    def _tell_done(self) -> None:
        for change, count in sorted(self.done.items()):
            if change in _DONE:
                self.report.notes.append(_DONE[change].format(f"{count:,}"))
        # Each grey image was counted once, when it became colour.
        if self.done["grey"]:
            self.report.notes.append(
                f"Grey images beside colour ones, which became RGB: {self.done['grey']:,}."
            )


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """Classes in the order of their names as strings, as torchvision has them.

    Where all names are whole numbers they are in the order of the numbers: -1, 0, 2, 10, not
    -1, 0, 10, 2. Of two names for one number the longer comes first: 01, 1.
    """
    if all(_NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(set(names), key=lambda name: (int(name), name)))
    return tuple(sorted(set(names)))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]}"
