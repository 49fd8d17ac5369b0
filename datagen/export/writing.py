"""How any export is written: the data, what is told about it, and the manifest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from datagen.errors import InvalidFile
from datagen.export.card import card
from datagen.export.croissant import croissant
from datagen.export.formats import known_format
from datagen.export.info import ExportInfo
from datagen.export.manifest import write_manifest
from datagen.export.rows import Origin, Rows, Split
from datagen.export.sheet import PAGE, PICTURE, Sheet, as_page
from datagen.export.sinks import Sink
from datagen.shards import SampleBatch

# Parts of one size, whatever the batches were: the bytes of an export depend on its rows alone.
PART_ROWS = 1000
CARD, CROISSANT = "README.md", "croissant.json"


def write_export(
    name: str, splits: Iterable[Split], info: ExportInfo, sink: Sink
) -> dict[str, Any]:
    """Write an export: the data, the contact sheet, the card, Croissant, and the manifest last.

    Args:
        name: of the format.
        splits: in the order of SPLITS; within each, the rows of one origin after those of another,
            and those of an origin in the order of their indices, in parts of any size.
        info: what they share.
        sink: takes the files; it is not closed here.

    Returns:
        the manifest, without its list of files.

    Raises:
        InvalidRequest: an unknown format, or one that cannot hold these images.
        InvalidFile: more or fewer rows than `info` says, or not in order.
    """
    layout = known_format(name)
    layout.refuse(info.image_shape, info.class_names, info.counts)
    sheet = Sheet(info)
    written = _Written(info, sheet)
    layout.write(written.watched(splits), info, sink)
    written.check()
    if layout.by_class:
        sink.put(PAGE, as_page(sheet.picture()))
    else:
        sink.put(PICTURE, sheet.picture())
    sink.put(CARD, card(layout, info).encode())
    sink.put(CROISSANT, croissant(layout, info, sink.entries()).encode())
    return write_manifest(name, info, sink)


class _Written:
    """Counts what a format takes, so that no export has more or less than it says."""

    def __init__(self, info: ExportInfo, sheet: Sheet) -> None:
        self._info = info
        self._sheet = sheet
        self._counts = {
            name: np.zeros(len(info.class_names), dtype=np.int64) for name in info.counts
        }

    def watched(self, splits: Iterable[Split]) -> Iterator[Split]:
        for split in splits:
            yield Split(split.name, split.counts, self._rows(split))

    def check(self) -> None:
        """Raises InvalidFile where something is missing or too much."""
        for name, wanted in self._info.counts.items():
            found = self._counts[name]
            if not np.array_equal(found, wanted):
                raise InvalidFile(
                    f"The export's split {name!r} should have {wanted.sum()} images and the "
                    f"stored ones are {found.sum()}."
                )

    def _rows(self, split: Split) -> Iterator[Rows]:
        counts = self._counts[split.name]
        origin, last = None, -1
        for rows in _regrouped(split.rows):
            last = last if rows.origin == origin else -1
            origin, indices = rows.origin, rows.samples.indices
            if indices[0] <= last or np.any(np.diff(indices) <= 0):
                raise InvalidFile(
                    f"Samples {indices.min()} to {indices.max()} came after sample {last}, or not "
                    "in order; an export has each sample once, in order."
                )
            last = int(indices[-1])
            counts += np.bincount(rows.samples.labels, minlength=len(counts))
            self._sheet.see(rows)
            yield rows


def _regrouped(parts: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in parts of PART_ROWS, but for the last of each origin."""
    waiting: list[Rows] = []
    held = 0
    for rows in parts:
        if waiting and rows.origin != waiting[0].origin:
            yield _joined(waiting)
            waiting, held = [], 0
        if not len(rows):
            continue
        waiting.append(rows)
        held += len(rows)
        if held < PART_ROWS:
            continue
        whole, start = _joined(waiting), 0
        while held - start >= PART_ROWS:
            yield whole.cut(start, start + PART_ROWS)
            start += PART_ROWS
        waiting, held = ([whole.cut(start, held)] if start < held else []), held - start
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    origin: Origin = parts[0].origin
    names = [name for part in parts for name in part.names or ()] or None
    return Rows(origin, SampleBatch.stacked([part.samples for part in parts]), names)
