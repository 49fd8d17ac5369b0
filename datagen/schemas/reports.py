"""Reports, and models beside each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from datagen.schemas.base import Request, Resource, State, WholeNumber
from datagen.schemas.models import ModelRef


class ReportCreate(Request):
    """A measurement of what the images of a job, or of a model, are worth."""

    job: UUID | None = Field(default=None, description="A job that has ended.")
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Or a model, of which as many images a label are made.",
    )
    real: str | None = Field(
        default=None,
        max_length=200,
        description="Real images to measure by: name, name@version or id of a dataset of yours. "
        "By default what the model was trained on, if that is yours.",
    )
    quick: bool = Field(default=False, description="Minutes instead of an hour.")
    images: WholeNumber | None = Field(
        default=None, ge=1, le=100_000, description="Look at so many of the images at most."
    )

    @model_validator(mode="after")
    def _one_subject(self) -> ReportCreate:
        if (self.job is None) == (self.model is None):
            raise ValueError("give one of 'job' and 'model'")
        return self


class Report(Resource):
    """What labelled images are worth, measured beside real ones."""

    id: UUID
    model: ModelRef
    job: UUID | None
    dataset: UUID | None
    quick: bool
    state: State
    progress: dict[str, Any]
    outcome: Literal["helps", "no_measurable_difference", "hurts", "unknown"] | None
    sentence: str | None = Field(description="The verdict.")
    bytes: int | None
    digest: str | None = Field(description="SHA-256 of its files as one archive.")
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class ComparedRow(Resource):
    """One figure of several models."""

    name: str
    values: list[Any] = Field(description="One a model, in their order; null where not known.")
    differs: bool
    best: list[int] = Field(description="Which models have the best value, where there is a best.")


class Comparison(Resource):
    """Models side by side."""

    models: list[ModelRef]
    rows: list[ComparedRow]
    warnings: list[str] = Field(description="Why some of the figures cannot be compared.")
