"""The rows of an export, read back from shards and datasets in the order in which it has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from datagen.export.rows import Origin, Rows, Split
from datagen.images import LabelledImages, encode_png
from datagen.schemas import SPLITS, ExportCreate
from datagen.service.datasets import load_named_split
from datagen.service.export_contents import Contents, Placing, RealPart
from datagen.service.stored_samples import read_samples
from datagen.shards import SampleBatch
from datagen.storage import Storage

REAL_AT_ONCE = 250


@dataclass(frozen=True)
class JobSource:
    """A job whose stored images are read.

    Attributes:
        job_id: the job.
        origin: what is told of its rows.
        places: number in the export of each class of its model, int64 (K,).
    """

    job_id: UUID
    origin: Origin
    places: np.ndarray


@dataclass(frozen=True)
class RealSource:
    """A dataset whose images are read.

    Attributes:
        prefix: of its keys in the store.
        files: the SHA-256 of each split's file, where it is known.
    """

    prefix: str
    files: dict[str, str | None]


@dataclass(frozen=True)
class Sources:
    """All that an export's rows are read from."""

    engine: Engine
    storage: Storage
    contents: Contents
    request: ExportCreate
    jobs: tuple[JobSource, ...]
    real: RealSource | None

    def splits(self) -> Iterator[Split]:
        """The splits in order, each with real images first."""
        for name, counts in self.contents.counts.items():
            yield Split(name, counts, self._rows(name))

    def _rows(self, split: str) -> Iterator[Rows]:
        real = self.contents.real
        if self.real is not None and real is not None and split in real.counts:
            yield from self._real_rows(self.real, split, real)
        if not self.contents.synthetic[split].any():
            return
        placing = self.contents.placed()
        for job in self.jobs:
            yield from self._job_rows(job, SPLITS.index(split), placing)

    def _job_rows(self, job: JobSource, split: int, placing: Placing) -> Iterator[Rows]:
        for read in read_samples(self.engine, self.storage, job.job_id):
            samples = replace(
                read,
                labels=job.places[read.labels],
                judged_labels=np.where(
                    read.judged_labels >= 0, job.places[read.judged_labels], read.judged_labels
                ),
            )
            passed = np.flatnonzero(self._passes(samples))
            kept = passed[placing.of(samples.labels[passed]) == split]
            if len(kept):
                whole = len(kept) == len(samples)
                yield Rows(job.origin, samples if whole else samples.rows(kept))

    def _passes(self, samples: SampleBatch) -> np.ndarray:
        """Which samples pass the filters, bool (n,)."""
        passes = self.contents.taken[samples.labels] > 0
        if self.request.min_score is not None:
            passes &= samples.scores >= self.request.min_score
        if self.request.indices is not None:
            start, stop = self.request.indices
            passes &= (samples.indices >= start) & (samples.indices < stop)
        return np.asarray(passes)

    def _real_rows(self, source: RealSource, split: str, part: RealPart) -> Iterator[Rows]:
        images, names = load_named_split(
            self.storage, source.prefix, split, source.files.get(split)
        )
        origin = Origin("real-" if self.jobs else "", synthetic=False)
        labels = part.places[images.labels]
        chosen = np.flatnonzero(part.counts[split][labels] > 0)
        for start in range(0, len(chosen), REAL_AT_ONCE):
            rows = chosen[start : start + REAL_AT_ONCE]
            called = None
            if names is not None:
                first, last = int(rows[0]), int(rows[-1])
                texts = names.texts(first, last + 1)
                called = [texts[row - first] for row in rows.tolist()]
            yield Rows(origin, _real_samples(images, labels, rows), called)


def _real_samples(images: LabelledImages, labels: np.ndarray, rows: np.ndarray) -> SampleBatch:
    files = encode_png(np.ascontiguousarray(images.images[rows]))
    none = np.full(len(rows), -1, dtype=np.int64)
    return SampleBatch(
        indices=rows,
        labels=labels[rows],
        scores=np.full(len(rows), np.nan),
        judged_labels=none,
        attempts=none,
        sources=np.full((len(rows), 2), -1, dtype=np.int64),
        digests=[hashlib.sha256(file).digest() for file in files],
        images=files,
    )
