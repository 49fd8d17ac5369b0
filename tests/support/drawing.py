"""Samples with random pixels, and exports of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from datagen.export.info import DatasetInfo, ExportInfo, JobInfo
from datagen.export.rows import Origin, Rows, Split
from datagen.export.sinks import FolderSink
from datagen.export.writing import write_export
from datagen.images import encode_png
from datagen.schemas import SPLITS
from datagen.shards import SampleBatch

JOB = JobInfo(
    job_id="0192f0c1-0000-7000-8000-000000000001",
    request={"labels": {"cat": 4}, "seed": 9, "temperature": 0.75, "model": "mine"},
    model_name="mine",
    model_version=2,
    model_digest="ab" * 32,
    seed=9,
    temperature=0.75,
    created_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
)
SYNTHETIC = Origin(job=JOB.job_id, model=JOB.model_digest, seed=9, sampler="prior")
# Images of each class, in sets that have broken loaders.
CASES: dict[str, dict[str, int]] = {
    "ordinary": {"cat": 4, "dog": 9, "owl": 5},
    "one class": {"scratch": 6},
    "twelve classes named by number": {str(number): 2 for number in range(12)},
    "class named like a split": {"cat": 2, "test": 3, "my-val": 2},
    "odd names": {
        "a/b": 2, "..": 1, "ä🦉": 2, "x" * 300: 1, "cat": 2, "Cat": 1, "[*]": 1, "eval": 1, ".": 1
    },
    "class without images": {"cat": 3, "dog": 0, "owl": 2},
    "names in a given order": {"zebra": 2, "train": 1, "Ant": 2, "item10": 1, "item2": 3},
    "names with white space": {" a  b": 2, "a b": 1, "c\u2028d": 2, "e\u00a0": 1},
}  # fmt: skip
SHAPES = [(1, 8, 8), (3, 8, 8)]
SEVERAL = {
    "synthetic": {"validation": {"cat": 2}},
    # No owl in the split test.
    "real": {"train": {"cat": 3, "owl": 1}, "test": {"cat": 1, "dog": 2}},
}


class Part:
    """The images of one origin in one split: pixels that differ from image to image."""

    def __init__(
        self, origin: Origin, counts: dict[str, int], shape: tuple[int, ...], seed: int, first: int
    ) -> None:
        self.origin = origin
        self.labels = np.repeat(np.arange(len(counts)), list(counts.values()))
        self.first = first
        total = len(self.labels)
        self.images = np.random.default_rng(seed).integers(0, 256, (total, *shape), dtype=np.uint8)
        self.files = encode_png(self.images)

    def rows(self, start: int, stop: int) -> Rows:
        files = self.files[start:stop]
        count, synthetic = len(files), self.origin.synthetic
        labels = self.labels[start:stop]
        scores = np.round(np.linspace(0.5, 1.0, len(self.files))[start:stop], 4)
        samples = SampleBatch(
            indices=self.first + np.arange(start, start + count),
            labels=labels,
            scores=scores if synthetic else np.full(count, np.nan),
            judged_labels=labels if synthetic else np.full(count, -1),
            attempts=np.full(count, 0 if synthetic else -1),
            sources=np.full((count, 2), -1, dtype=np.int64),
            digests=[hashlib.sha256(file).digest() for file in files],
            images=files,
        )
        names = [f"photos/{index}.jpg" for index in samples.indices.tolist()]
        return Rows(self.origin, samples, None if synthetic else names)

    def parts(self, size: int) -> Iterator[Rows]:
        for start in range(0, len(self.files), size):
            yield self.rows(start, start + size)


class Drawn:
    """What an export is made of: images of one job, and real ones beside them if there are any.

    Attributes:
        names: of the classes.
        labels, images, files: of the job's images in the split `train`, in the order of indices.
        parts: the images of each split, real ones first.
        info: what an export is told.
    """

    def __init__(
        self,
        counts: dict[str, int],
        *,
        shape: tuple[int, int, int] = (1, 6, 5),
        seed: int = 3,
        synthetic: dict[str, dict[str, int]] | None = None,
        real: dict[str, dict[str, int]] | None = None,
        **info: Any,
    ) -> None:
        self.names = tuple(counts)
        wanted = {"train": counts} | (synthetic or {})
        nothing = dict.fromkeys(counts, 0)
        self.parts: dict[str, list[Part]] = {}
        first = 0
        for number, split in enumerate(SPLITS):
            found = []
            if real and split in real:
                origin = Origin("real-", synthetic=False)
                own = nothing | real[split]
                found.append(Part(origin, own, shape, seed + 10 + number, 0))
            if split in wanted:
                own = nothing | wanted[split]
                found.append(Part(SYNTHETIC, own, shape, seed + number, first))
                first += len(found[-1].labels)
            if any(len(part.labels) for part in found):
                self.parts[split] = found
        own_part = next((part for part in self.parts["train"] if part.origin.synthetic), None)
        assert own_part is not None
        self.labels, self.images, self.files = own_part.labels, own_part.images, own_part.files
        self.info = ExportInfo(
            **{
                "class_names": self.names,
                "image_shape": shape,
                "created_at": JOB.created_at,
                "synthetic": self._counts(synthetic=True),
                "real": self._counts(synthetic=False),
                "jobs": (JOB,),
                "dataset": DatasetInfo("pets", 3, "cd" * 32) if real else None,
            }
            | info
        )

    def _counts(self, *, synthetic: bool) -> dict[str, list[int]]:
        return {
            split: np.bincount(part.labels, minlength=len(self.names)).tolist()
            for split, parts in self.parts.items()
            for part in parts
            if part.origin.synthetic == synthetic
        }

    def splits(self, size: int = 7) -> Iterator[Split]:
        """All splits, their rows so many at a time."""
        for name, counts in self.info.counts.items():
            yield Split(name, counts, self._rows(name, size))

    def _rows(self, name: str, size: int) -> Iterator[Rows]:
        for part in self.parts[name]:
            yield from part.parts(size)

    def all_rows(self, split: str) -> Iterator[tuple[str, int, np.ndarray, bool]]:
        """Of each image of a split the name of its file, its label, its pixels, and its kind."""
        for part in self.parts[split]:
            stems = part.rows(0, len(part.files)).stems()
            yield from zip(
                stems,
                part.labels.tolist(),
                part.images,
                [part.origin.synthetic] * len(stems),
                strict=True,
            )

    def write(self, name: str, folder: Path, batch_size: int = 7) -> dict[str, Any]:
        """Export into a folder; the manifest without its files."""
        with FolderSink(folder) as sink:
            return write_export(name, self.splits(batch_size), self.info, sink)


def pixels(image: Any, channels: int | None = None) -> np.ndarray:
    """What a loader read, as uint8 (C, H, W)."""
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array if channels is None else array[:channels]


def check_images(found: Iterator[tuple[Any, int]], drawn: Any, split: str) -> None:
    """The pixels and labels that were found are those that were drawn, each once."""
    channels = drawn.info.image_shape[0]
    wanted = sorted(
        (image.tobytes(), label) for _, label, image, _ in drawn.all_rows(split)
    )  # fmt: skip
    assert sorted((pixels(image, channels).tobytes(), int(label)) for image, label in found) == (
        wanted
    )
