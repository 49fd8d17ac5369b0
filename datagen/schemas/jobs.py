"""Jobs: what is asked for, and what has become of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, computed_field, model_validator

from datagen.schemas.base import (
    MAX_ATTEMPTS,
    MAX_TEMPERATURE,
    MAX_TRUNCATION,
    SEED_TEXT,
    Count,
    RealNumber,
    Request,
    Resource,
    Sampler,
    Seed,
    State,
    Strength,
)
from datagen.schemas.models import ModelRef
from datagen.texts import depth_of

Priority = Literal["interactive", "bulk"]
MOST_INTERACTIVE = 10_000
LARGEST_METADATA = 8192
# Answers are written by a library that stops at some depth, and so do readers.
DEEPEST_METADATA = 32
_NOTES = "What the job leaves out and why: classes that the model has not learnt, by name."


def _small(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if depth_of(metadata) > DEEPEST_METADATA:
        raise ValueError(f"it is nested more than {DEEPEST_METADATA} levels deep; make it flatter")
    try:
        text = json.dumps(metadata, allow_nan=False)
    except ValueError:
        raise ValueError("it holds a number that JSON has no form for; leave it out") from None
    if len(text) > LARGEST_METADATA:
        raise ValueError(f"it is {len(text):,} bytes of JSON; {LARGEST_METADATA:,} at most")
    return metadata


Metadata = Annotated[
    dict[str, JsonValue],
    AfterValidator(_small),
    Field(
        description=f"Anything of yours, {LARGEST_METADATA:,} bytes of JSON at most; returned "
        "with the job.",
        examples=[{"ticket": "VIS-17"}],
    ),
]


class Gate(Request):
    """Which candidates become images of a job; the others are drawn again."""

    min_score: RealNumber = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Least probability of the label that the judge may give.",
    )
    max_attempts: int = Field(
        default=20, ge=1, le=MAX_ATTEMPTS, strict=True, description="Candidates an image."
    )
    reject_copies: bool = Field(
        default=True,
        description="Refuse what is much nearer to an image that the model was trained on than "
        "such images are to each other.",
    )
    reject_duplicates: bool = Field(
        default=True, description="Refuse what the job has already, pixel by pixel."
    )
    on_shortfall: Literal["fail", "keep"] = Field(
        default="fail",
        description="When no candidate of an image passes: end the job as failed, or leave the "
        "image out and tell how many were.",
    )


class Recommended(Resource):
    """How images of a model are best drawn, as its training found."""

    samplers: tuple[Sampler, ...] = Field(
        default=(), description="The best one that the owner of a job may use is taken."
    )
    gate: Gate | None = Field(default=None, description="For images of the best sampler.")
    gates: dict[Sampler, Gate] = Field(
        default_factory=dict, description="For those of other samplers, where it is another one."
    )
    strength: Strength | None = Field(
        default=None, description="Of `neighbour`; absent where the model has no flow as prior."
    )

    def gate_of(self, sampler: str) -> Gate | None:
        """The gate for images of a sampler."""
        return next((own for name, own in self.gates.items() if name == sampler), self.gate)


class Balance(Request):
    """As many images of each class as a dataset's training images lack."""

    dataset: str = Field(
        min_length=1, max_length=200, description="Name, name@version or id of a dataset."
    )
    to: Count | None = Field(
        default=None, description="Images that every class comes to; as the largest, if absent."
    )


class Wanted(Request):
    """How many images of which label: one of four ways to say it."""

    labels: dict[str, Count] | None = Field(
        default=None,
        max_length=100_000,
        description="So many of each, by the label's name, or by its index where no label has "
        "that name.",
        examples=[{"3": 500, "8": 200}],
    )
    all: Count | None = Field(
        default=None,
        description="This many of every label that the model has learnt, that is, had training "
        "images of.",
    )
    count: Count | None = Field(
        default=None,
        description="This many of a model that knows no labels; the judge then gives them.",
    )
    balance: Balance | None = Field(
        default=None, description="What a dataset lacks to be balanced."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [self.labels, self.all, self.count, self.balance]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of 'labels', 'all', 'count' and 'balance'")
        if self.labels is not None and not self.labels:
            raise ValueError("'labels' is empty; ask for at least one image")
        return self


class JobExtend(Wanted):
    """A request for more images of a job: the next indices, by the same seed."""


class JobCreate(Wanted):
    """A request for images."""

    model: str = Field(
        min_length=1,
        max_length=200,
        description="Name, name@version or id of a model.",
        examples=["mnist"],
    )
    seed: Seed | None = Field(
        default=None, description="If absent, datagen chooses one, below 2^53, and returns it."
    )
    temperature: RealNumber = Field(default=1.0, ge=0.0, le=MAX_TEMPERATURE, allow_inf_nan=False)
    sampler: Sampler | Literal["recommended"] = Field(
        default="recommended",
        description="How latents are drawn: from the model's prior of the label, from the density "
        "of its posterior samples, round a real image, or between two of them. By default as the "
        "model's training found best, under `metrics.recommended`; as usually teaches best "
        "where it compared nothing.",
    )
    truncation: RealNumber | None = Field(
        default=None,
        gt=0.0,
        le=MAX_TRUNCATION,
        allow_inf_nan=False,
        description="Keeps standard normals within this distance of 0.",
    )
    strength: Strength | None = Field(
        default=None,
        description="Of the sampler `neighbour`: how far an image is from the real one that it "
        "starts from. 0 gives that image as the model reconstructs it, 1 one that has nothing to "
        "do with it. By default the value that the model recommends.",
    )
    gate: Gate | None = Field(
        default=None,
        description="What an image must pass; `{}` takes the gate's defaults, null takes every "
        "image. Left out, it is what the model's training recommends, under "
        "`metrics.recommended`.",
    )
    exports: list[str] = Field(
        default_factory=list, max_length=8, description="Formats to export when it has succeeded."
    )
    priority: Priority | None = Field(
        default=None,
        description="`interactive` before the batches of large jobs, for at most "
        f"{MOST_INTERACTIVE:,} images; `bulk` in turn with them. By default a job of one batch is "
        "interactive, and so are the first images of any.",
    )
    metadata: Metadata = Field(default_factory=dict)
    retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        strict=True,
        description="Days after its end at which the job and its images are removed; never, if "
        "absent.",
    )
    webhook: UUID | None = Field(
        default=None,
        description="One of your webhooks, which is notified of this job and its exports; those "
        "that are not `named` are notified anyhow.",
    )

    @property
    def leaves_gate_to_model(self) -> bool:
        """Whether no gate was named: null is one, that lets every image pass."""
        return "gate" not in self.model_fields_set


class JobPlan(Resource):
    """What a job would do, as a dry run says; nothing is written."""

    model: ModelRef
    seed: int | None = Field(description="Null where one would be drawn.")
    sampler: str
    temperature: float
    truncation: float | None
    strength: float | None = None
    gate: Gate | None
    labels: dict[str, int] = Field(description="Empty where the judge would give them.")
    images: int
    batches: int
    seconds: float | None = Field(
        description="At the pace of the model's jobs before; null where there was none."
    )
    bytes: int | None = Field(description="Of what is stored, likewise.")
    images_left: int = Field(description="Of the owner's quota, after this job.")
    notes: list[str] = Field(default_factory=list, description=_NOTES)

    @computed_field(description=SEED_TEXT)  # type: ignore[prop-decorator]
    @property
    def seed_text(self) -> str | None:
        """The seed in digits."""
        return None if self.seed is None else str(self.seed)


class LabelProgress(Resource):
    """How far a job is with one label."""

    label: str
    requested: int | None = Field(description="Null where the judge gave the labels.")
    stored: int
    mean_score: float | None = Field(description="Mean of the judge's probability of the label.")
    agreement: float | None = Field(
        description="Share of images that the judge gives this label; null where it gave all."
    )
    rejected: dict[str, int] = Field(
        default_factory=dict,
        description="Candidates that the gate refused: by `score`, as a `copy` of an image of the "
        "training set, or as a `duplicate` of another image of the job.",
    )
    short: int = Field(default=0, description="Left out: no candidate passed the gate.")


class StageSeconds(Resource):
    """Worker seconds that a job spent, summed over all its batches."""

    latents: float
    decode: float
    score: float
    encode: float
    store: float


class Job(Resource):
    """A request for images and what has become of it."""

    id: UUID
    state: State
    model: ModelRef
    seed: int
    sampler: str
    temperature: float
    truncation: float | None
    strength: float | None = None
    gate: Gate | None = None
    images_requested: int
    images_stored: int
    images_short: int = Field(default=0, description="Left out: no candidate passed the gate.")
    stage: Literal["waiting", "generating", "settling"] | None = Field(
        default=None,
        description="Null once it has ended; `settling` generates duplicates again.",
    )
    images_per_second: float | None = Field(
        default=None, description="Over the last minute; null while nothing was stored in it."
    )
    seconds_left: float | None = Field(default=None, description="At that pace.")
    priority: Priority | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    retention_days: int | None = None
    webhook: UUID | None = None
    expires_at: datetime | None = Field(
        default=None, description="When it is removed with its images."
    )
    labelled_by: Literal["request", "judge"] = "request"
    labels: list[LabelProgress]
    notes: list[str] = Field(default_factory=list, description=_NOTES)
    seconds: StageSeconds
    exports: list[UUID] = Field(default_factory=list)
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @computed_field(description=SEED_TEXT)  # type: ignore[prop-decorator]
    @property
    def seed_text(self) -> str:
        """The seed in digits."""
        return str(self.seed)


class Sample(Resource):
    """One image with its label and metadata."""

    index: int
    label: str
    score: float
    judged_label: str
    attempt: int
    sampler: str
    sources: list[int] = Field(
        description="Rows of the real images, in the training split, that it was made from."
    )
    digest: str = Field(description="SHA-256 of the PNG, hexadecimal.")
