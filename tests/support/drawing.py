"""A job's samples with random pixels, and exports of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from datagen.export.formats import write_export
from datagen.export.info import ExportInfo
from datagen.export.sinks import FolderSink
from datagen.images import encode_png
from datagen.shards import SampleBatch


class Drawn:
    """A job's samples: pixels that differ from image to image, and what an export is told."""

    def __init__(
        self,
        counts: dict[str, int],
        *,
        shape: tuple[int, int, int] = (1, 6, 5),
        seed: int = 3,
        **info: Any,
    ) -> None:
        self.names = tuple(counts)
        self.labels = np.repeat(np.arange(len(counts)), list(counts.values()))
        total = len(self.labels)
        self.images = np.random.default_rng(seed).integers(0, 256, (total, *shape), dtype=np.uint8)
        self.files = encode_png(self.images)
        self.info = ExportInfo(
            **{
                "class_names": self.names,
                "image_shape": shape,
                "job_id": "0192f0c1-0000-7000-8000-000000000001",
                "request": {"labels": counts, "seed": 9, "temperature": 0.75, "model": "mine"},
                "model_name": "mine",
                "model_version": 2,
                "model_digest": "ab" * 32,
                "seed": 9,
                "temperature": 0.75,
                "created_at": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
                "images_total": total,
            }
            | info
        )

    def batch(self, start: int, stop: int) -> SampleBatch:
        """Samples from index `start` to before `stop`."""
        files = self.files[start:stop]
        return SampleBatch(
            indices=np.arange(start, start + len(files)),
            labels=self.labels[start:stop],
            scores=np.round(np.linspace(0.5, 1.0, len(self.files))[start:stop], 4),
            judged_labels=self.labels[start:stop],
            attempts=np.zeros(len(files), dtype=np.int64),
            sources=np.full((len(files), 2), -1, dtype=np.int64),
            digests=[hashlib.sha256(file).digest() for file in files],
            images=files,
        )

    def batches(self, size: int = 7) -> Iterator[SampleBatch]:
        """All samples, so many at a time."""
        for start in range(0, len(self.files), size):
            yield self.batch(start, start + size)

    def write(self, name: str, folder: Path, batch_size: int = 7) -> dict[str, Any]:
        """Export into a folder; the manifest without its files."""
        with FolderSink(folder) as sink:
            return write_export(name, self.batches(batch_size), self.info, sink)
