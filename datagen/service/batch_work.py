"""What passes between the service and whoever makes a batch: the work, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from datagen.schemas import Gate
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.shards import SampleBatch

# Images of a model that knows no labels: the judge gives each its own.
UNLABELLED = -1


@dataclass(frozen=True)
class Stretch:
    """Images `start` to `stop` - 1 of a job carry `label`, or none that was asked for."""

    label: int
    start: int
    stop: int


@dataclass(frozen=True)
class BatchWork:
    """All that a worker needs to know to make a batch it has claimed.

    Attributes:
        gate: what the images must pass; None lets every one pass.
        made: the shard that the batch has already, where the closing pass makes `redraws` anew.
        redraws: indices of those images, rising.
    """

    batch_id: UUID
    job_id: UUID
    attempt: int
    start: int
    stop: int
    stretches: tuple[Stretch, ...]
    seed: int
    sampler: str
    temperature: float
    truncation: float | None
    strength: float | None
    class_names: tuple[str, ...]
    model_name: str
    model_version: int
    files: ModelFiles
    gate: Gate | None = None
    made: StoredFile | None = None
    redraws: tuple[int, ...] = ()

    def labels(self) -> np.ndarray:
        """The label of every image of the batch, int64 of shape (stop - start,)."""
        values = [stretch.label for stretch in self.stretches]
        counts = [stretch.stop - stretch.start for stretch in self.stretches]
        return np.repeat(np.asarray(values, dtype=np.int64), counts)


@dataclass(frozen=True)
class Refused:
    """Candidates that the gate refused.

    Attributes:
        indices: of the images that they were drawn for, int64 (R,).
        reasons: why, int64 (R,), as numbered in `REASONS` from 1 on.
        judged_labels: int64 (R,).
        short: indices of images of which no candidate passed, int64 (S,).
    """

    indices: np.ndarray
    reasons: np.ndarray
    judged_labels: np.ndarray
    short: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Refused]) -> Refused:
        """All that several passes refused."""
        names = ("indices", "reasons", "judged_labels", "short")
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True)
class BatchResult:
    """What a worker made.

    Attributes:
        shard_key, shard_digest, shard_bytes: the shard that it stored.
        device, torch_version: what it was made with.
        samples: those that are new.
        seconds: of each stage.
        refused: what the gate said; None without one.
        replaced: samples of before in whose place the new ones are.
    """

    shard_key: str
    shard_digest: str
    shard_bytes: int
    device: str
    torch_version: str
    samples: SampleBatch
    seconds: dict[str, float]
    refused: Refused | None = None
    replaced: SampleBatch | None = None
