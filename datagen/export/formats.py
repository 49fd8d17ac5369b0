"""The formats, each registered in one line, and how any of them is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from datagen.errors import InvalidFile, InvalidRequest
from datagen.export import imagefolder, parquet
from datagen.export.card import card
from datagen.export.info import ExportInfo
from datagen.export.manifest import write_manifest
from datagen.export.sinks import Sink
from datagen.shards import SampleBatch

# Parts of one size, whatever the batches were: the bytes of an export depend on its samples alone.
PART_ROWS = 250

Writer = Callable[[Iterable[SampleBatch], ExportInfo, Sink], None]


@dataclass(frozen=True)
class Format:
    """A layout that exports can be written in."""

    name: str
    write: Writer


FORMATS = {
    "imagefolder": Format("imagefolder", imagefolder.write),
    "parquet": Format("parquet", parquet.write),
}


def known_format(name: str) -> Format:
    """The format of a name. Raises InvalidRequest that names the known ones."""
    if name not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise InvalidRequest(
            f"There is no export format {name[:40]!r}; there are {known}.", field="format"
        )
    return FORMATS[name]


def write_export(
    name: str, samples: Iterable[SampleBatch], info: ExportInfo, sink: Sink
) -> dict[str, Any]:
    """Write an export: the data, the card, and the manifest last.

    Args:
        name: of the format.
        samples: all of a job's, in the order of their indices, in parts of any size.
        info: what they share.
        sink: takes the files; it is not closed here.

    Returns:
        the manifest, without its list of files.

    Raises:
        InvalidRequest: an unknown format.
        InvalidFile: more or fewer samples than `info` says, or not in the order of their indices.
    """
    layout = known_format(name)
    counts = np.zeros(len(info.class_names), dtype=np.int64)
    layout.write(_counted(_regrouped(samples), counts), info, sink)
    if counts.sum() != info.images_total:
        raise InvalidFile(
            f"The export should have {info.images_total} images and the shards hold {counts.sum()}."
        )
    by_name = dict(zip(info.class_names, counts.tolist(), strict=True))
    sink.put("README.md", card(name, info, by_name).encode())
    return write_manifest(name, info, by_name, sink)


def _counted(samples: Iterable[SampleBatch], counts: np.ndarray) -> Iterator[SampleBatch]:
    last = -1
    for part in samples:
        if part.indices[0] <= last or np.any(np.diff(part.indices) <= 0):
            raise InvalidFile(
                f"Samples {part.indices.min()} to {part.indices.max()} came after sample {last}, "
                "or not in order; an export has each sample once, in order."
            )
        last = int(part.indices[-1])
        counts += np.bincount(part.labels, minlength=len(counts))
        yield part


def _regrouped(samples: Iterable[SampleBatch]) -> Iterator[SampleBatch]:
    waiting: list[SampleBatch] = []
    rows = 0
    for part in samples:
        waiting.append(part)
        rows += len(part)
        while rows >= PART_ROWS:
            joined = _joined(waiting)
            yield _sliced(joined, slice(0, PART_ROWS))
            rows -= PART_ROWS
            waiting = [_sliced(joined, slice(PART_ROWS, None))]
    if rows:
        yield _joined(waiting)


def _joined(parts: list[SampleBatch]) -> SampleBatch:
    columns: dict[str, Any] = {}
    for field in fields(SampleBatch):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], np.ndarray):
            columns[field.name] = np.concatenate(values)
        else:
            columns[field.name] = [value for part in values for value in part]
    return SampleBatch(**columns)


def _sliced(part: SampleBatch, rows: slice) -> SampleBatch:
    return SampleBatch(**{field.name: getattr(part, field.name)[rows] for field in fields(part)})
