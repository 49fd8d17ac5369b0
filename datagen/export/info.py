"""What an export says about where its images come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from datagen.schemas import SPLITS


@dataclass(frozen=True)
class JobInfo:
    """One job whose images are in an export.

    Attributes:
        job_id: its id.
        request: what was asked for: labels with counts, seed, temperature, model.
        model_name, model_version, model_digest: the generator.
        seed, temperature, sampler, truncation, strength: the job's.
        created_at: when the job was created.
        partial: it failed or was cancelled; this is what it had stored.
        metrics: what the training of the generator measured.
        refused: candidates that its gate refused, by label and reason; None where it had no gate.
    """

    job_id: str
    request: Mapping[str, Any]
    model_name: str
    model_version: int
    model_digest: str
    seed: int
    temperature: float
    created_at: datetime
    sampler: str = "prior"
    truncation: float | None = None
    strength: float | None = None
    partial: bool = False
    refused: Mapping[str, Mapping[str, int]] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetInfo:
    """The dataset whose real images are in an export."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class ExportInfo:
    """What all of an export's rows share.

    Nothing here depends on when or where the export is written: the same jobs give the same bytes.

    Attributes:
        class_names: in order; labels are indices into them.
        image_shape: channels, height, width.
        created_at: of the last of what is in it.
        synthetic: images of each class in each split that a model made.
        real: likewise, those that nobody made.
        jobs: where the synthetic ones come from.
        dataset: where the real ones come from, if there are any.
        selection: what was asked for beyond the sources: filters, plan, splits.
        licence: of the images, if it is known.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    created_at: datetime
    synthetic: Mapping[str, Sequence[int]]
    real: Mapping[str, Sequence[int]] = field(default_factory=dict)
    jobs: tuple[JobInfo, ...] = ()
    dataset: DatasetInfo | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """Images of each class in each split that has any, int64 (K,)."""
        none = [0] * len(self.class_names)
        found = {
            name: np.asarray(self.synthetic.get(name, none), dtype=np.int64)
            + np.asarray(self.real.get(name, none), dtype=np.int64)
            for name in SPLITS
        }
        return {name: counts for name, counts in found.items() if counts.any()}

    @property
    def images_total(self) -> int:
        """Images in all splits."""
        return sum(int(counts.sum()) for counts in self.counts.values())

    @property
    def partial(self) -> bool:
        """Whether one of the jobs did not finish."""
        return any(job.partial for job in self.jobs)

    @property
    def dataset_digest(self) -> str:
        """The dataset's, or nothing."""
        return self.dataset.digest if self.dataset else ""

    @property
    def title(self) -> str:
        """What the dataset is called where people read it."""
        models = ", ".join(dict.fromkeys(job.model_name for job in self.jobs))
        if self.dataset is None:
            return f"Synthetic images from {models}"
        beside = f", with synthetic images from {models}" if models else ""
        return f"{self.dataset.name}{beside}"
