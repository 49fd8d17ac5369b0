"""Exports: what goes into one, and where it lies."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, field_validator, model_validator

from datagen.schemas.base import (
    MAX_IMAGES,
    ClassOrder,
    Count,
    License,
    RealNumber,
    Request,
    Resource,
    Seed,
    Shares,
    ShownOnce,
    State,
    WholeNumber,
)


class Format(Resource):
    """A format that exports can be written in, and what it can hold."""

    name: str
    summary: str
    grey: bool
    rgb: bool
    metadata: bool = Field(description="Whether it says of each image where it comes from.")
    splits: list[str]


class ExportPlan(Request):
    """How many synthetic images are put beside real ones, counted in the split `train`."""

    fill: Count | None = Field(default=None, description="Fill every class up to this many.")
    add: Count | None = Field(default=None, description="Add this many to every class.")
    balance: bool = Field(default=False, description="Fill every class up to the largest one.")

    @model_validator(mode="after")
    def _one_way(self) -> ExportPlan:
        if [self.fill, self.add, self.balance or None].count(None) != 2:  # noqa: PLR2004 - one is left
            raise ValueError("give one of 'fill', 'add' and 'balance'")
        return self


class ExportCreate(Request):
    """A dataset to be written: the images of jobs, real ones of a dataset, or both."""

    job: UUID | None = Field(default=None, description="One job; `jobs` takes several.")
    jobs: list[UUID] = Field(default_factory=list, max_length=100)
    dataset: str | None = Field(
        default=None, max_length=100, description="Real images beside them: name, name@version, id."
    )
    plan: ExportPlan | None = Field(
        default=None, description="How many synthetic images go beside real ones; all, if absent."
    )
    format: str = Field(min_length=1, max_length=40, examples=["parquet"])
    splits: Shares | None = Field(
        default=None,
        examples=[{"train": 0.8, "validation": 0.1, "test": 0.1}],
        description="How synthetic images are shared out, class by class; all into `train` if "
        "absent. Real ones stay in the split that they came with.",
    )
    split_seed: Seed = 0
    labels: list[str] | None = Field(
        default=None, min_length=1, max_length=100_000, description="Only images of these labels."
    )
    class_order: ClassOrder = "dataset"
    min_score: RealNumber | None = Field(
        default=None, ge=0.0, le=1.0, description="Only synthetic images of this score or more."
    )
    indices: tuple[WholeNumber, WholeNumber] | None = Field(
        default=None,
        description="Only synthetic images from the first index to before the second.",
    )
    max_per_label: Count | None = Field(
        default=None, description="At most this many synthetic images of a label, the first ones."
    )
    on_shortfall: Literal["fail", "keep"] = Field(
        default="fail",
        description="Whether a plan that asks for more images than the jobs have is refused, or "
        "takes what there is.",
    )
    license: License | None = Field(
        default=None, description="Of the export; by default that of the sources, if it is one."
    )
    repair: bool = Field(
        default=False,
        description="Have shards that are missing or damaged made again, and wait for them.",
    )
    destination: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="Put the files there, in place of an archive to download: a name of the "
        "server's `DATAGEN_EXPORT_DESTINATIONS`.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Where in the destination; by default the format and the export's id.",
    )
    overwrite: bool = Field(
        default=False, description="Replace a former export there; nothing else is ever replaced."
    )

    @model_validator(mode="after")
    def _has_sources(self) -> ExportCreate:
        if self.job is not None and self.jobs:
            raise ValueError("give 'job' or 'jobs', not both")
        if self.job is None and not self.jobs and self.dataset is None:
            raise ValueError("name a job, several jobs or a dataset")
        if self.plan is not None and self.dataset is None:
            raise ValueError("'plan' counts real images; name the 'dataset' that has them")
        if self.destination is None and (self.path is not None or self.overwrite):
            raise ValueError("'path' and 'overwrite' are about a 'destination'; name one")
        if self.plan is not None and self.splits is not None:
            raise ValueError("'plan' fills the split train; leave 'splits' out")
        return self

    @field_validator("indices")
    @classmethod
    def _rising(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] < value[1] <= MAX_IMAGES:
            raise ValueError(
                f"indices run from the first to before the second, and {value[0]}, {value[1]} do "
                "not"
            )
        return value

    @property
    def all_jobs(self) -> list[UUID]:
        """The jobs that it names, each once."""
        return list(dict.fromkeys([*([] if self.job is None else [self.job]), *self.jobs]))


class Export(Resource):
    """A dataset written in a format."""

    id: UUID
    job: UUID | None = Field(description="The job whose images it has; the first of several.")
    jobs: list[UUID] = Field(default_factory=list)
    dataset: str | None = Field(default=None, description="The dataset whose real images it has.")
    format: str
    request: ExportCreate | None = Field(default=None, description="The request.")
    warnings: list[str] = Field(
        default_factory=list, description="What to mind when the export is used."
    )
    state: State
    images_written: int
    images_total: int
    bytes: int | None
    digest: str | None = Field(
        description="SHA-256 of the zip, hexadecimal; in a destination, of `manifest.json`."
    )
    location: str | None = Field(
        default=None, description="Of what was put into a destination: where."
    )
    error: str | None
    expires_at: datetime | None = Field(
        default=None, description="When its files go; null keeps them."
    )
    expired: bool = Field(
        default=False, description="Its files are gone; the same request makes them again."
    )
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class LinkCreate(Request):
    """A link by which an export can be downloaded without a key."""

    archive: Literal["zip", "tar"] = "zip"
    file: str | None = Field(
        default=None, min_length=1, max_length=1000, description="One file in place of all."
    )
    expires_in: int = Field(
        default=3600, ge=1, le=7 * 86_400, strict=True, description="Seconds that it is good for."
    )


class Link(Resource):
    """A link by which an export can be downloaded without a key."""

    url: ShownOnce
    expires_at: datetime
