"""The wire types that the API and the client share, and their limits.

Unknown fields are refused in requests (a misspelt option must not pass in silence) and ignored in
answers (an older client keeps reading a newer server).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

MAX_SEED = 2**63 - 1
MAX_IMAGES = 10_000_000_000
# Candidates of one image that a gate may refuse before it is given up.
MAX_ATTEMPTS = 1000
MAX_TEMPERATURE = 10.0
MAX_TRUNCATION = 10.0
Sampler = Literal["prior", "density", "neighbour", "interpolate"]
# Those that begin with a real image of the label.
STARTING_FROM_IMAGES = frozenset({"neighbour", "interpolate"})
SPLITS = ("train", "validation", "test")
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Name = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        description="Lower-case letters, digits, '.', '_' and '-', at most 64.",
        examples=["defects"],
    ),
]
License = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f]+$",
        description="Under which the images may be used, best as an SPDX identifier.",
        examples=["cc-by-4.0"],
    ),
]
Count = Annotated[int, Field(ge=1, le=MAX_IMAGES, strict=True)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, strict=True)]


class Request(BaseModel):
    """A body that a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Resource(BaseModel):
    """Something that the API answers with."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)


class Gate(Request):
    """Which candidates become images of a job; the others are drawn again."""

    min_score: float = Field(
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
    gate: Gate | None = None


class JobCreate(Request):
    """A request for images: counts by label name, the same for all labels, or so many in all."""

    model: str = Field(
        min_length=1,
        max_length=200,
        description="Name, name@version or id of a model.",
        examples=["mnist"],
    )
    labels: dict[str, Count] | None = Field(
        default=None, max_length=100_000, examples=[{"3": 500, "8": 200}]
    )
    all: Count | None = Field(default=None, description="This many of every label.")
    count: Count | None = Field(
        default=None,
        description="This many of a model that knows no labels; the judge then gives them.",
    )
    seed: Seed | None = Field(default=None, description="Drawn, and told, if absent.")
    temperature: float = Field(default=1.0, ge=0.0, le=MAX_TEMPERATURE, allow_inf_nan=False)
    sampler: Sampler | Literal["recommended"] = Field(
        default="recommended",
        description="How latents are drawn: from the model's prior of the label, from the density "
        "of its posterior samples, round a real image, or between two of them. By default as the "
        "model's training found best, under `metrics.recommended`.",
    )
    truncation: float | None = Field(
        default=None,
        gt=0.0,
        le=MAX_TRUNCATION,
        allow_inf_nan=False,
        description="Keeps standard normals within this distance of 0.",
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

    @property
    def leaves_gate_to_model(self) -> bool:
        """Whether no gate was named: null is one, that lets every image pass."""
        return "gate" not in self.model_fields_set

    @model_validator(mode="after")
    def _one_plan(self) -> JobCreate:
        if [self.labels, self.all, self.count].count(None) != 2:  # noqa: PLR2004 - one is left
            raise ValueError("give one of 'labels', 'all' and 'count'")
        if self.labels is not None and not self.labels:
            raise ValueError("'labels' is empty; ask for at least one image")
        return self


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


class ModelRef(Resource):
    """The model that a job used."""

    id: UUID
    name: str
    version: int
    digest: str | None


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
    gate: Gate | None = None
    images_requested: int
    images_stored: int
    images_short: int = Field(default=0, description="Left out: no candidate passed the gate.")
    labelled_by: Literal["request", "judge"] = "request"
    labels: list[LabelProgress]
    seconds: StageSeconds
    exports: list[UUID] = Field(default_factory=list)
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


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
    splits: dict[str, float] | None = Field(
        default=None,
        max_length=3,
        examples=[{"train": 0.8, "validation": 0.1, "test": 0.1}],
        description="How synthetic images are shared out, class by class; all into `train` if "
        "absent. Real ones stay in the split that they came with.",
    )
    split_seed: Seed = 0
    labels: list[str] | None = Field(
        default=None, min_length=1, max_length=100_000, description="Only images of these labels."
    )
    min_score: float | None = Field(
        default=None, ge=0.0, le=1.0, description="Only synthetic images of this score or more."
    )
    indices: tuple[int, int] | None = Field(
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

    @field_validator("splits")
    @classmethod
    def _shares(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        for name, share in value.items():
            if name not in SPLITS:
                raise ValueError(f"there is no split {name[:40]!r}; there are {', '.join(SPLITS)}")
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"the share of {name} is {share}; it must be from 0 to 1")
        if not math.isclose(sum(value.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares add up to {sum(value.values()):g}; they must to 1")
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
    request: ExportCreate | None = Field(default=None, description="What was asked for.")
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

    url: str
    expires_at: datetime


class DatasetCreate(Request):
    """A dataset that the server is to read from where it lies."""

    name: Name
    source: str = Field(
        min_length=1,
        max_length=2000,
        description="`sample:mnist`, or a URL under one of the server's `DATAGEN_DATASET_ROOTS`.",
        examples=["sample:mnist", "s3://bucket/datasets/defects.zip"],
    )
    size: int | None = Field(default=None, ge=1, le=1024, description="Side of every image.")
    pad: bool = Field(default=False, description="Keep the proportions, and fill up the edges.")
    on_error: Literal["fail", "skip"] = Field(
        default="fail",
        description="Whether a file that cannot be read refuses all, or is left out.",
    )
    split: dict[Literal["train", "validation", "test"], float] | None = Field(
        default=None,
        description="Shares of the splits, where the data come with none.",
        examples=[{"train": 0.8, "validation": 0.1, "test": 0.1}],
    )
    seed: Seed = Field(default=0, description="Which images go into which split.")
    license: License | None = None


class Dataset(Resource):
    """Real labelled images, registered and versioned."""

    id: UUID
    name: str
    version: int
    digest: str
    class_names: list[str]
    image_shape: list[int] = Field(description="Channels, height, width.")
    counts: dict[str, list[int]] = Field(description="Per split, images per class.")
    report: dict[str, Any] = Field(
        default_factory=dict,
        description="What was found while reading: the kind of `source`, `notes`, `skipped` files "
        "with the reason (`skipped_count` in all), `duplicates`, images `moved` out of a split "
        "because another one has them, `conflicting` labels, and the SHA-256 of each split's file.",
    )
    license: str | None = Field(
        default=None, description="Under which exports of its images are by default."
    )
    created_at: datetime


class TrainingOptionsIn(Request):
    """Options of a training; absent means the recommended value."""

    preset: Literal["small", "base", "large"] | None = None
    time_budget: float | None = Field(
        default=None,
        gt=0,
        le=30 * 86_400,
        allow_inf_nan=False,
        description="Seconds that the training may take, measuring aside; sets the epochs.",
    )
    family: Literal["autoencoder", "vae", "cvae"] | None = None
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] | None = None
    prior: Literal["standard", "normal", "learnt"] | None = Field(
        default=None, description="What the sampler `prior` draws from; the better one if absent."
    )
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    refine_epochs: int | None = Field(default=None, ge=0, le=10_000)
    judge_epochs: int | None = Field(default=None, ge=1, le=10_000)
    latent_dim: int | None = Field(default=None, ge=1, le=1024)
    width: int | None = Field(default=None, ge=8, le=2048)
    batch_size: int | None = Field(default=None, ge=2, le=65_536)
    learning_rate: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    patience: int | None = Field(default=None, ge=0, le=10_000)
    average: float | None = Field(default=None, ge=0, lt=1, allow_inf_nan=False)
    balanced: bool | None = None
    augment: Literal["none", "affine"] | None = Field(
        default=None, description="Turn, scale, shear and shift images a little while training."
    )
    refine: bool | None = Field(
        default=None,
        description="True refines even where small classes or colours speak against it; "
        "`refine_epochs` 0 refines nothing.",
    )
    refine_sampler: Literal["prior", "density", "neighbour"] | None = Field(
        default=None, description="What the refinement draws latents from."
    )
    beta: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    kl_schedule: Literal["constant", "linear", "cyclical"] | None = None
    kl_warmup: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    free_bits: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    label_dropout: float | None = Field(default=None, ge=0, lt=1, allow_inf_nan=False)
    no_kl: bool | None = None
    no_reconstruction: bool | None = None
    density: bool | None = None
    examples_per_class: int | None = Field(default=None, ge=0, le=100_000)
    seed: Seed | None = None


class ModelCreate(Request):
    """A generator to be trained on a dataset."""

    name: Name
    dataset: str = Field(min_length=1, max_length=200, description="Name, name@version or id.")
    options: TrainingOptionsIn = TrainingOptionsIn()


class Model(Resource):
    """A trained generator, or one in training."""

    id: UUID
    name: str
    version: int
    state: State
    visibility: Literal["private", "public"]
    dataset: UUID | None
    class_names: list[str]
    image_shape: list[int]
    digest: str | None
    judge_digest: str | None
    index_digest: str | None = Field(
        default=None, description="Of what copies of training images are known by."
    )
    dataset_digest: str | None = Field(description="What it was trained on, whatever became of it.")
    options: dict[str, Any]
    config: dict[str, Any] = Field(description="The architecture that the options came to.")
    seconds: float = Field(description="That the training took, over all its slices.")
    device: str | None = Field(description="Kind of device that it ended on.")
    metrics: dict[str, Any]
    progress: dict[str, Any]
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class FiguresCreate(Request):
    """Pictures of what a model has learnt, to be drawn."""

    dataset: str | None = Field(
        default=None,
        max_length=200,
        description="Real images to show beside: name, name@version or id of a dataset of yours. "
        "By default what the model was trained on, if that is yours.",
    )


class Figures(Resource):
    """Pictures of what a model has learnt."""

    id: UUID
    model: UUID
    dataset: UUID | None
    state: State
    names: list[str] = Field(description="Each is there as `.png`, `.svg` and `.json`.")
    bytes: int | None
    digest: str | None = Field(description="SHA-256 of all of them as one archive.")
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


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
    images: int | None = Field(
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


Item = TypeVar("Item")


class Page(Resource, Generic[Item]):
    """Some items of a list; `next_cursor` asks for those that follow."""

    items: list[Item]
    next_cursor: str | None = None


class Readiness(Resource):
    """Which parts of the service answer."""

    ready: bool
    parts: dict[str, str] = Field(description="Part, and 'ok' or what is wrong with it.")


class Problem(Resource):
    """An error, as `application/problem+json` (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
