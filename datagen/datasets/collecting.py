"""Collecting the images of a source in a file on disk, whatever pieces they come in."""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datagen.datasets.decoding import DecodeAhead
from datagen.datasets.limits import check_name, check_room
from datagen.datasets.listing import nfc
from datagen.datasets.names import Names, NameWriter
from datagen.datasets.pixels import PADDED, RESIZED, Ready, decoded, ready
from datagen.datasets.reading import LISTED_PROBLEMS, ReadOptions, ReadReport
from datagen.datasets.source import BLOCK_BYTES, Block, Entry, Source, rows_at_once
from datagen.datasets.unscaled import Unscaled, multiplied
from datagen.datasets.value_range import Span, ValueRange, measured
from datagen.errors import InvalidFile
from datagen.schemas import SPLITS

NAMED_PROBLEMS = 5
MAX_CLASSES = 100_000
NO_SPLIT = -1
_FLOAT_BYTES = 4
_COPY_IMAGES = 4096
# As many digits as 64 bits hold: longer ones are names, and cost much to be compared as numbers.
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_DONE = {
    "transparency": "Images with transparency, which was laid over white: {}.",
    "palette": "Images with a palette, which were converted to RGB: {}.",
    "orientation": "Images turned as their EXIF orientation says: {}.",
    "colours": "Images in other colour spaces than grey or RGB, which were converted to RGB: {}.",
    "first": "Files with several pictures, of which the first was read: {}.",
    "profile": "Images with a colour profile other than sRGB, which was not applied: {}.",
    "no-alpha": "Images whose alpha was 0 throughout though it means nothing there, which were "
    "read as opaque: {}.",
    "clear": "Images that were fully transparent, which became white: {}.",
    "1-bit": "Images of one bit per pixel, which were converted to grey: {}.",
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
        (scratch / "unscaled").open("w+b") as unscaled,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        collector = _Collector(file, NameWriter(names), Unscaled(unscaled), options, report, pool)
        for piece in source.pieces:
            collector.add(piece)
        collector.check_sizes()
        report.notes += source.notes
        collected = collector.finish(path, source.class_names)
    (scratch / "unscaled").unlink()
    return collected


@dataclass
class _Collector:
    file: BinaryIO
    names: NameWriter
    unscaled: Unscaled
    options: ReadOptions
    report: ReadReport
    pool: InitVar[ThreadPoolExecutor]
    shape: tuple[int, ...] | None = None
    first: str = ""
    labels: array[int] = field(default_factory=lambda: array("q"))
    splits: array[int] = field(default_factory=lambda: array("b"))
    numbers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    values: ValueRange = field(default_factory=ValueRange)

    def __post_init__(self, pool: ThreadPoolExecutor) -> None:
        self.ahead = DecodeAhead(pool, self._decoded)

    def add(self, piece: Sequence[Entry] | Block) -> None:
        """Take some images."""
        if isinstance(piece, Block):
            for block in self._parts(piece):
                self._add_block(block)
        else:
            self._add_entries(piece)

    def _parts(self, block: Block) -> Iterator[Block]:
        """A block in parts, where its images become so large that it would not fit into memory."""
        channels, *sides = block.images.shape[1:]
        size = max([*sides, self.options.size or 0])
        at_once = rows_at_once((channels, size, size, _FLOAT_BYTES))
        for start in range(0, len(block.images), at_once):
            yield replace(
                block,
                images=block.images[start : start + at_once],
                labels=block.labels[start : start + at_once],
                first=block.first + start,
            )

    def _add_block(self, block: Block) -> None:
        images, span = block.images, self._span(block)
        if span is not None:
            images = multiplied(images, span)
        if self.options.size is not None and images.shape[2:] != (self.options.size,) * 2:
            found = [ready(image, frozenset(), self.options, span) for image in images]
            images = np.stack([own.pixels for own in found])
            self.done.update(change for own in found for change in own.changes)
        shape = (_colours(images, span), *images.shape[2:])
        if not self._fits(shape, block.name):
            return
        start, count = len(self.labels), len(images)
        if span is None:
            self._write(images)
        else:
            self._write(np.zeros((count, *shape), np.uint8))
            self._wait(range(start, start + count), images, span, block.split, block.name)
        self._note(block.labels, [block.split] * count)
        self.names.add(f"{block.name}[{place}]" for place in self._places(block))

    @staticmethod
    def _places(block: Block) -> range:
        return range(block.first, block.first + len(block.images))

    def _span(self, block: Block) -> Span | None:
        """Where the values of a block lie, if only the whole dataset tells their range."""
        images, alpha = block.images, block.images.shape[1] not in {1, 3}
        plain = images.dtype == np.uint8 and not alpha
        if plain and (self.values.bright or images.max() > 1):
            self.values.bright = True
            return None
        if alpha:
            self.done["transparency"] += len(images)
        return measured(images, images.dtype.name, block.name, alpha=alpha)

    def _wait(
        self,
        rows: Sequence[int],
        values: np.ndarray,
        span: Span,
        split: str | None,
        name: str,
    ) -> None:
        """Keep images until the range of all values is known; their places are taken already."""
        self.values.add(span, split, len(rows), name)
        self.unscaled.add(rows, values, span)

    def _add_entries(self, entries: Sequence[Entry]) -> None:
        kept: list[tuple[Entry, Ready]] = []
        held = 0
        for entry, found in self.ahead.decoded(entries):
            if isinstance(found, InvalidFile):
                self._refuse(entry.name, found.detail)
                continue
            if not self._fits(_shape(found), entry.name):
                continue
            if found.changes:
                self.done.update(found.changes)
            kept.append((entry, found))
            held += found.pixels.nbytes
            if held > BLOCK_BYTES:
                self._keep(kept)
                kept, held = [], 0
        self._keep(kept)

    def _keep(self, kept: Sequence[tuple[Entry, Ready]]) -> None:
        """Write pictures that were decoded."""
        if kept:
            self._write(self._images(kept))
            owners = [entry for entry, _ in kept]
            self._note([str(entry.label) for entry in owners], [entry.split for entry in owners])
            self.names.add(entry.file or entry.name for entry in owners)

    def _images(self, kept: Sequence[tuple[Entry, Ready]]) -> np.ndarray:
        """Images of one shape, those black that wait for the range of their values."""
        assert self.shape is not None  # noqa: S101 - for the type checker
        images = np.zeros((len(kept), *self.shape), dtype=np.uint8)
        start = len(self.labels)
        for number, (entry, found) in enumerate(kept):
            if _shape(found)[0] < self.shape[0]:
                self.done["grey"] += 1
            if found.span is not None:
                row = (start + number,)
                self._wait(row, found.pixels[None], found.span, entry.split, entry.name)
                continue
            # Numpy spreads one grey channel over the three of a colour dataset.
            images[number] = found.pixels
            if not self.values.bright:
                self.values.bright = bool(found.pixels.max() > 1)
        return images

    def _decoded(self, entry: Entry) -> Ready | InvalidFile:
        try:
            return decoded(entry, self.options, bright=self.values.bright)
        except InvalidFile as error:
            return error

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
        them = "it" if len(self.problems) == 1 else "them"
        hint = f"Fix or remove {them}, or leave such files out (on_error=skip, --on-error skip)."
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
        for given in labels:
            name = nfc(given)
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
        names = class_order(list(self.numbers)) if given is None else tuple(map(nfc, given))
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
        self.file.flush()
        shape = (len(self.labels), *self.shape)
        self._scale(path, shape)
        self._tell_done()
        self.report.notes += _alike(names)
        return Collected(
            images=np.asarray(np.memmap(path, np.uint8, mode="r", shape=shape)),
            labels=order[np.frombuffer(self.labels, np.int64)],
            splits=np.frombuffer(self.splits, np.int8),
            class_names=names,
            names=self.names.finish(),
        )

    def _scale(self, path: Path, shape: tuple[int, ...]) -> None:
        """Put the images in place whose range is known now. Raises InvalidFile."""
        scales = self.values.scales()
        self.report.notes += self.values.notes()
        if scales:
            images = np.memmap(path, np.uint8, mode="r+", shape=shape)
            self.unscaled.put(images, scales)
            images.flush()

    def _tell_done(self) -> None:
        for change, count in sorted(self.done.items()):
            if change in _DONE:
                self.report.notes.append(_DONE[change].format(f"{count:,}"))
        # Each grey image was counted once, when it became colour.
        if self.done["grey"]:
            self.report.notes.append(
                f"Grey images beside colour ones, converted to RGB: {self.done['grey']:,}."
            )


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """Classes in the order of their names as strings, as torchvision has them.

    Where all names are whole numbers they are in the order of the numbers: -1, 0, 2, 10, not
    -1, 0, 10, 2. Of two names for one number the longer comes first: 01, 1.
    """
    if all(_NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(set(names), key=lambda name: (int(name), name)))
    return tuple(sorted(set(names)))


def _alike(names: Sequence[str]) -> Iterator[str]:
    """A sentence about classes that may have been meant as one."""
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(name.strip().casefold(), []).append(name)
    groups = [group for group in by_form.values() if len(group) > 1]
    if groups:
        shown = "; ".join(", ".join(map(repr, group)) for group in groups[:NAMED_PROBLEMS])
        yield (
            f"Classes that differ only in case, or in white space at the ends, and were kept "
            f"apart: {shown}{'; …' if len(groups) > NAMED_PROBLEMS else ''}."
        )


def _shape(found: Ready) -> tuple[int, ...]:
    """Channels, opacity not among them, height and width."""
    shape = found.pixels.shape
    if found.span is None or found.span.opacity is None:
        return shape
    return shape[0] - 1, *shape[1:]


def _colours(images: np.ndarray, span: Span | None) -> int:
    """Channels of images (n, C, H, W), opacity not among them."""
    return int(images.shape[1]) - (span is not None and span.opacity is not None)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]}"
