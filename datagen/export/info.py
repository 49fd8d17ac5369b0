"""What an export says about the job behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ExportInfo:
    """What all samples of an export share.

    Nothing here depends on when or where the export is written: the same job gives the same bytes.

    Attributes:
        class_names: the model's, in order; labels are indices into them.
        image_shape: channels, height, width.
        job_id: the job whose samples these are.
        request: what was asked for: labels with counts, seed, temperature, model.
        model_name, model_version, model_digest: the generator.
        seed, temperature, sampler, truncation: the job's.
        created_at: when the job was created.
        licence: of the images, if it is known.
        images_total: samples that will come.
        partial: the job failed or was cancelled; this is what it had stored.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    job_id: str
    request: Mapping[str, Any]
    model_name: str
    model_version: int
    model_digest: str
    seed: int
    temperature: float
    created_at: datetime
    images_total: int
    sampler: str = "prior"
    truncation: float | None = None
    licence: str | None = None
    partial: bool = False
