"""Pipelines: recipes that are run by a schedule, by hand, or when a dataset changes; their runs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    computed_field,
    model_validator,
)

from datagen.durations import parse_duration
from datagen.schemas.base import (
    MAX_TEMPERATURE,
    MAX_TRUNCATION,
    SEED_TEXT,
    ClassOrder,
    Count,
    License,
    Moment,
    Name,
    RealNumber,
    Request,
    Resource,
    Sampler,
    Seed,
    Shares,
    State,
    Strength,
    WholeNumber,
)
from datagen.schemas.datasets import DatasetSource
from datagen.schemas.jobs import Gate
from datagen.schemas.models import TrainingOptionsIn

Step = Literal["refresh", "train", "plan", "generate", "check", "deliver", "notify"]
STEPS: tuple[Step, ...] = Step.__args__  # type: ignore[attr-defined] # a Literal's own words
_FIELDS = {"pipeline", "date", "time", "run", "format"}
_BRACES = re.compile(r"\{([^{}]*)\}")


def _seconds(value: object) -> object:
    """Whole seconds of `90s`, `15m`, `1.5h` or `7d`."""
    if not isinstance(value, str):
        return value
    seconds = parse_duration(value)
    if seconds is None:
        raise ValueError("write a time as 90s, 15m, 1.5h or 7d")
    if not seconds.is_integer():
        raise ValueError(f"it is {seconds:g} s; write a time of whole seconds")
    return int(seconds)


Duration = Annotated[
    WholeNumber,
    BeforeValidator(_seconds),
    Field(ge=0, le=366 * 86_400, examples=["6h"], description="Seconds, or 90s, 15m, 1.5h, 7d."),
]


def _template(text: str) -> str:
    """A path of plain parts, with known names in braces."""
    unknown = [name for name in _BRACES.findall(text) if name not in _FIELDS]
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is no field; there are {', '.join(sorted(_FIELDS))}")
    plain = _BRACES.sub("x", text)
    if "{" in plain or "}" in plain:
        raise ValueError("a brace stands alone")
    parts = plain.split("/")
    if any(part in {"", ".", ".."} or not part.isprintable() or "\\" in part for part in parts):
        raise ValueError("it is a path below the destination: no empty part, no '.' and no '..'")
    return text


def _from_url(value: object) -> object:
    return {"source": value} if isinstance(value, str) else value


class Source(Request):
    """The real images."""

    dataset: str = Field(
        min_length=1,
        max_length=100,
        description="A name, whose latest version is taken, or name@version.",
        examples=["defects"],
    )
    refresh: Annotated[DatasetSource, BeforeValidator(_from_url)] | None = Field(
        default=None,
        description="Read from there first; a new version only where the images have changed. A "
        "URL under the roots that the server's operator allows, or an object that also says how.",
        examples=["s3://bucket/photos", {"source": "s3://bucket/photos", "size": 32}],
    )

    @model_validator(mode="after")
    def _by_name(self) -> Self:
        if self.refresh is not None and "@" in self.dataset:
            raise ValueError("'refresh' makes new versions; name the 'dataset' without one")
        return self


class Training(TrainingOptionsIn):
    """When a model is trained again, and how."""

    when: Literal["never", "dataset_changed", "always"] = Field(
        default="dataset_changed",
        description="`never` trains where there is no such model yet.",
    )
    from_latest: bool = Field(
        default=True,
        description="Start from the weights of the latest model of the name, where its images have "
        "the same shape and its networks are what the options ask for; else from nothing.",
    )

    @property
    def options(self) -> TrainingOptionsIn:
        """What the training is told."""
        told = self.model_dump(exclude={"when", "from_latest"}, exclude_unset=True)
        return TrainingOptionsIn.model_validate(told)


class TrainedModel(Request):
    """A model of the pipeline's own."""

    name: Name | None = Field(default=None, description="The pipeline's, if absent.")
    train: Training = Training()


class Plan(Request):
    """How many images of each class: one of four ways to say it, and caps."""

    fill: Count | None = Field(default=None, description="Every class to so many, in train.")
    add: Count | None = Field(default=None, description="So many of each.")
    balance: Literal[True] | None = Field(default=None, description="Every class to the largest.")
    labels: dict[str, Count] | None = Field(default=None, description="So many of each named.")
    max_per_label: Count | None = Field(default=None, description="No more of any class in a run.")
    max_images: Count | None = Field(
        default=None, description="No more in a run; a plan that needs more fails the run."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [self.fill, self.add, self.balance, self.labels]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of 'fill', 'add', 'balance' and 'labels'")
        if self.labels is not None and not self.labels:
            raise ValueError("'labels' is empty; ask for at least one image")
        return self


class Checks(Request):
    """What a report must find, else nothing is delivered."""

    min_fidelity: RealNumber | None = Field(
        default=None, ge=0.0, le=1.0,
        description="Least balanced share of labels that an independent classifier agrees with.",
    )  # fmt: skip
    max_copies: RealNumber | None = Field(
        default=None, ge=0.0, le=1.0, description="Largest share of copies of real images."
    )
    usefulness: Literal["helps", "does_not_hurt"] | None = Field(
        default=None, description="What the verdict must be; `does_not_hurt` lets all but `hurts`."
    )
    quick: bool = Field(default=True, description="A report of minutes in place of an hour.")
    images: WholeNumber | None = Field(default=None, ge=100, le=100_000)


class Deliver(Request):
    """An export of every run."""

    format: str = Field(min_length=1, max_length=40, examples=["parquet"])
    merge: bool = Field(default=False, description="With the real images of the dataset.")
    splits: Shares | None = None
    split_seed: Seed = 0
    class_order: ClassOrder = "dataset"
    license: License | None = None
    destination: str | None = Field(
        default=None, min_length=1, max_length=80, description="A name that the operator gave."
    )
    name: Annotated[str, AfterValidator(_template)] = Field(
        default="{pipeline}/{date}-{time}-{format}",
        min_length=1,
        max_length=150,
        description="Where in the destination: {pipeline}, {date}, {time} (of the due time, UTC), "
        "{run}, {format}.",
    )
    keep: WholeNumber | None = Field(
        default=None, ge=1, le=10_000, description="Exports of the pipeline that are kept."
    )


class Schedule(Request):
    """When a pipeline runs by itself."""

    cron: str | None = Field(
        default=None,
        max_length=200,
        description="Minute, hour, day of month, month, day of week; local time of the zone.",
        examples=["0 2 * * *"],
    )
    every: Duration | None = Field(default=None, description="Instead of `cron`.")
    on_dataset: bool = Field(
        default=False, description="Instead of both: when the dataset gets a new version."
    )
    timezone: str = Field(default="UTC", max_length=60, examples=["Europe/Berlin"])
    start: Moment | None = None
    end: Moment | None = None
    jitter: Duration = Field(
        default=0, description="A run begins up to so much later, each pipeline at its own moment."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum([self.cron is not None, self.every is not None, self.on_dataset]) != 1:
            raise ValueError("give one of 'cron', 'every' and 'on_dataset'")
        if self.start and self.end and self.end <= self.start:
            raise ValueError("'end' is not after 'start'")
        return self


class Notify(Request):
    """Who is told how a run ended."""

    webhook: UUID = Field(description="One of your webhooks.")
    on: Literal["failure", "success", "always"] = "failure"


class PipelineApply(Request):
    """A recipe, as it is written in a file."""

    name: Name
    source: Source
    model: Annotated[str, Field(min_length=1, max_length=200)] | TrainedModel = Field(
        description="A name (its latest version), name@version or id; or how to train one."
    )
    plan: Plan
    sampler: Sampler | Literal["recommended"] = "recommended"
    temperature: RealNumber = Field(default=1.0, ge=0.0, le=MAX_TEMPERATURE, allow_inf_nan=False)
    truncation: RealNumber | None = Field(
        default=None, gt=0.0, le=MAX_TRUNCATION, allow_inf_nan=False
    )
    strength: Strength | None = None
    gate: Gate | None = Field(
        default=None, description="As for a job: left out, the model's own; null takes every image."
    )
    seed: Seed | None = Field(
        default=None, description="The same for every run; drawn from pipeline and run, if absent."
    )
    checks: Checks | None = None
    deliver: list[Deliver] = Field(default_factory=list, max_length=8)
    schedule: Schedule | None = Field(default=None, description="Run by hand alone, if absent.")
    paused: bool = False
    on_overlap: Literal["skip", "queue", "cancel_previous"] = Field(
        default="skip", description="What a due run does while another one goes on."
    )
    on_missed: Literal["run_once", "skip"] = Field(
        default="run_once", description="What is done of due times that nobody saw."
    )
    retries: WholeNumber = Field(default=0, ge=0, le=10, description="Of a run that failed.")
    notify: Notify | None = None

    @model_validator(mode="after")
    def _strength_is_for_neighbours(self) -> Self:
        if self.strength is not None and self.sampler != "neighbour":
            raise ValueError("'strength' is for the sampler 'neighbour'; name that sampler too")
        return self

    @property
    def leaves_gate_to_model(self) -> bool:
        """Whether no gate was named: null is one, that lets every image pass."""
        return "gate" not in self.model_fields_set


def pipeline_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a recipe file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PipelineApply.model_json_schema(),
        "title": "A datagen pipeline",
    }


class LogLine(Resource):
    """What was said of a step, and when."""

    at: datetime
    text: str


class StepLink(Resource):
    """Something that a step has made, or that it took."""

    kind: Literal["dataset", "model", "job", "report", "export", "webhook"]
    id: UUID


class StepRecord(Resource):
    """One step of a run."""

    name: Step
    state: Literal["waiting", "running", "succeeded", "failed", "skipped", "cancelled"]
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log: list[LogLine] = Field(default_factory=list)
    links: list[StepLink] = Field(default_factory=list)
    done: float | None = Field(
        default=None, description="Of a running step the share that is done, from 0 to 1."
    )


class Pipeline(Resource):
    """A recipe that is kept, and when it runs next."""

    id: UUID
    name: str
    version: int = Field(description="Raised by every change of the recipe.")
    recipe: dict[str, Any]
    paused: bool
    next_due_at: datetime | None
    next_due_note: str | None = Field(
        default=None, description="Why a pipeline that has a schedule is due at no time."
    )
    last_run: UUID | None = None
    last_state: State | None = None
    created_at: datetime
    updated_at: datetime


class Run(Resource):
    """A pipeline's work for one due time."""

    id: UUID
    pipeline: UUID
    name: str
    version: int = Field(description="Of the recipe.")
    cause: Literal["schedule", "hand", "dataset"]
    due_at: datetime
    state: State
    retry: int = Field(description="How often a step of it has failed and was tried again.")
    steps: list[StepRecord]
    seed: int | None
    dataset: UUID | None = None
    model: UUID | None = None
    job: UUID | None = None
    report: UUID | None = None
    exports: list[UUID] = Field(default_factory=list)
    images: int | None = Field(default=None, description="That were asked for; 0: nothing to do.")
    sentence: str | None = Field(default=None, description="What came of it.")
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @computed_field(description=SEED_TEXT)  # type: ignore[prop-decorator]
    @property
    def seed_text(self) -> str | None:
        """The seed in digits."""
        return None if self.seed is None else str(self.seed)


class ClassChange(Resource):
    """A class before and after a run."""

    label: str
    before: int
    after: int


class DryRun(Resource):
    """What a run would do, by what is there now."""

    dataset: str
    classes: list[ClassChange] = Field(description="Training images, with those to be made.")
    images: int = Field(description="That would be made.")
    warnings: list[str] = Field(
        default_factory=list, description="What the run would stumble over."
    )


class DueTimes(Resource):
    """When a pipeline runs next."""

    times: list[datetime]
    timezone: str
    paused: bool


class Validated(Resource):
    """A recipe that can be applied, and when it would run."""

    name: str
    next: list[datetime]
    warnings: list[str] = Field(default_factory=list)
