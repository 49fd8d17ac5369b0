"""Datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from datagen.schemas.base import License, Name, Request, Resource, Seed, Shares, WholeNumber


def _with_training(shares: dict[str, float]) -> dict[str, float]:
    if shares.get("train", 0.0) <= 0.0:
        raise ValueError("no image is left for 'train'; give it a share above 0")
    return shares


class DatasetSource(Request):
    """Images that the server is to read from where they lie, and how."""

    source: str = Field(
        min_length=1,
        max_length=2000,
        description="`sample:mnist`, or a URL under one of the server's `DATAGEN_DATASET_ROOTS`.",
        examples=["sample:mnist", "s3://bucket/datasets/defects.zip"],
    )
    size: WholeNumber | None = Field(
        default=None, ge=1, le=1024, description="Side of every image."
    )
    pad: bool = Field(default=False, description="Keep the proportions, and fill up the edges.")
    on_error: Literal["fail", "skip"] = Field(
        default="fail",
        description="Whether a file that cannot be read refuses all, or is left out.",
    )
    split: Annotated[Shares, AfterValidator(_with_training)] | None = Field(
        default=None,
        description="Shares of the splits, where the data come with none.",
        examples=[{"train": 0.8, "validation": 0.1, "test": 0.1}],
    )
    seed: Seed = Field(default=0, description="Which images go into which split.")
    license: License | None = None
    zip_encoding: str | None = Field(
        default=None,
        max_length=40,
        description="Encoding of the file names in a zip that does not mark them as UTF-8.",
        examples=["cp932"],
    )


class DatasetCreate(DatasetSource):
    """A dataset that the server is to read from where it lies."""

    name: Name


class DatasetDryRun(DatasetSource):
    """A source that is only to be looked at; a name may be given, as for a dataset."""

    name: Name | None = None


class DatasetInspection(Resource):
    """What a source holds, as it would be registered."""

    class_names: list[str]
    image_shape: list[int] = Field(description="Channels, height, width.")
    counts: dict[str, list[int]] = Field(description="Per split, images per class.")
    report: dict[str, Any] = Field(
        default_factory=dict,
        description="What was found while reading: the kind of `source`, `notes`, `skipped` files "
        "with the reason (`skipped_count` in all), `duplicates`, images `moved` out of a split "
        "because another one has them, `conflicting` labels, and the SHA-256 of each split's file.",
    )


class Dataset(DatasetInspection):
    """Real labelled images, registered and versioned."""

    id: UUID
    name: str
    version: int
    digest: str
    license: str | None = Field(
        default=None, description="Under which exports of its images are by default."
    )
    created_at: datetime
