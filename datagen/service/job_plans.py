"""Plans of jobs: what is asked of a model, made definite, or refused before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.tables import Batch, Job, JobLabel, Model
from datagen.errors import Conflict, InvalidRequest, UnknownLabel
from datagen.export.formats import known_format
from datagen.schemas import (
    MOST_INTERACTIVE,
    STARTING_FROM_IMAGES,
    Balance,
    Gate,
    JobCreate,
    JobPlan,
    Wanted,
)
from datagen.service import batch_work, batches, learnt, quotas, webhooks
from datagen.service.common import find_dataset, find_model, image_shape
from datagen.service.recommending import gate_of, refuse_unfit_sampler, sampler_of, strength_of
from datagen.settings import Settings

LISTED_LABELS = 20
# Those that tell the pace of a model.
PACED_BATCHES = 50
# No job takes no time, as an estimate that is rounded to a tenth would have it.
LEAST_SECONDS = 0.1


class Asked(NamedTuple):
    """What is asked for: pairs of label and count, and what was left out of it, in sentences."""

    counts: list[tuple[int, int]]
    notes: list[str]


class Resolved(NamedTuple):
    """A request with nothing left open, its pairs of label and count, and what was left out."""

    request: JobCreate
    counts: list[tuple[int, int]]
    notes: list[str]


def plan(session: Session, settings: Settings, owner_id: UUID, request: JobCreate) -> JobPlan:
    """What a job would do; nothing is written. Raises what `create` raises."""
    model = usable(session, owner_id, request)
    request, counts, notes = resolved(session, owner_id, request, model)
    total = sum(count for _, count in counts)
    quota = quotas.refuse_job(session, settings, owner_id, total)
    seconds, stored_bytes = _pace(session, model)
    labelled = request.count is None
    return JobPlan(
        model=schemas.ModelRef.model_validate(model),
        seed=request.seed,
        sampler=request.sampler,
        temperature=request.temperature,
        truncation=request.truncation,
        strength=request.strength,
        gate=request.gate,
        labels={model.class_names[label]: count for label, count in counts if labelled},
        images=total,
        batches=batches.count_of(total, settings.batch_size),
        seconds=None if seconds is None else max(LEAST_SECONDS, round(seconds * total, 1)),
        bytes=None if stored_bytes is None else round(stored_bytes * total),
        images_left=int(quota.left) - total,
        notes=notes,
    )


def _pace(session: Session, model: Model) -> tuple[float | None, float | None]:
    """Seconds and stored bytes an image, over the model's latest batches."""
    latest = (
        select(Batch.started_at, Batch.ended_at, Batch.stop - Batch.start, Batch.shard_bytes)
        .join(Job, Job.id == Batch.job_id)
        .where(
            Job.model_id == model.id, Batch.ended_at.is_not(None), Batch.shard_bytes.is_not(None)
        )
        .order_by(Batch.ended_at.desc())
        .limit(PACED_BATCHES)
    )
    rows = session.execute(latest).all()
    spans = sorted((row[0], row[1]) for row in rows if row[0] and row[1])
    images: int = sum(row[2] for row in rows)
    if not images:
        return None, None
    # Batches run side by side, so their spans overlap: what counts is the time that any ran.
    busy, last = 0.0, spans[0][0]
    for began, ended in spans:
        busy += max(0.0, (ended - max(began, last)).total_seconds())
        last = max(last, ended)
    return busy / images, sum(row[3] or 0 for row in rows) / images


def usable(session: Session, owner_id: UUID, request: JobCreate) -> Model:
    """The model that a request names. Raises NotFound, or Conflict where it is not trained."""
    model = find_model(session, owner_id, request.model, usable=True)
    if model.state != "succeeded":
        raise Conflict(
            f"The model {request.model!r} is {model.state}; wait until its training has succeeded."
        )
    return model


def resolved(session: Session, owner_id: UUID, request: JobCreate, model: Model) -> Resolved:
    """The request with nothing left open, and its plan; refuses what cannot be made."""
    webhooks.check(session, owner_id, request.webhook)
    request = _settled(request, model, owner_id)
    _refuse_unfit_labels(request, model)
    refuse_unfit_sampler(owner_id, request.sampler, model)
    if request.strength is not None and request.sampler != "neighbour":
        raise InvalidRequest(
            "'strength' is how far the sampler 'neighbour' goes from a real image, and the sampler "
            f"is {request.sampler!r}; use 'neighbour', or leave 'strength' out.",
            field="strength",
        )
    if request.gate is not None:
        _refuse_unfit_gate(request, request.gate, model)
    counts, notes = counts_of(session, owner_id, request, model)
    if request.priority == "interactive" and sum(c for _, c in counts) > MOST_INTERACTIVE:
        raise InvalidRequest(
            f"'interactive' is for {MOST_INTERACTIVE:,} images at most, so that nobody waits "
            "behind them; leave 'priority' out.",
            field="priority",
        )
    for name in request.exports:
        known_format(name).refuse(image_shape(model), model.class_names, ["train"])
    return Resolved(request, counts, notes)


def _settled(request: JobCreate, model: Model, owner_id: UUID) -> JobCreate:
    """The request with what it leaves to the model filled in."""
    changes: dict[str, object] = {}
    if request.sampler == "recommended":
        changes["sampler"] = sampler_of(model, owner_id, labelled=request.count is None)
    if request.leaves_gate_to_model:
        sampler = str(changes.get("sampler", request.sampler))
        changes["gate"] = gate_of(model, sampler, request.temperature)
    if request.strength is None:
        changes["strength"] = strength_of(model, str(changes.get("sampler", request.sampler)))
    return request.model_copy(update=changes)


def _refuse_unfit_labels(request: JobCreate, model: Model) -> None:
    family = (model.config or model.options).get("family", "cvae")
    what = f"The model {model.name!r} is of the family {family!r}"
    from_images = request.sampler in STARTING_FROM_IMAGES
    if request.count is not None and (family == "cvae" or from_images):
        told = f"the sampler {request.sampler!r}" if from_images else what
        raise InvalidRequest(
            f"'count' asks for images without a label, and {told} makes images of labels; ask "
            "with 'labels' or 'all'.",
            field="count",
        )
    if request.count is None and family != "cvae" and not from_images:
        raise InvalidRequest(
            f"{what}, which knows no labels; ask with 'count' and let the judge give them, or use "
            "the sampler 'neighbour' or 'interpolate', which start from a real image of a label.",
            field="labels",
        )


def _refuse_unfit_gate(request: JobCreate, gate: Gate, model: Model) -> None:
    if gate.reject_copies and model.index_key is None:
        raise InvalidRequest(
            f"The model {model.name!r} keeps no index of its training images to know copies by; "
            "set 'reject_copies' to false, or train it again.",
            field="gate.reject_copies",
        )
    if gate.reject_duplicates and request.temperature == 0 and request.sampler == "prior":
        raise InvalidRequest(
            "At temperature 0 the sampler 'prior' makes one image a label, again and again; raise "
            "the temperature, or set 'reject_duplicates' to false.",
            field="gate.reject_duplicates",
        )


def counts_of(session: Session, owner_id: UUID, wanted: Wanted, model: Model) -> Asked:
    """How many of which label, in the order of the model's classes; one pair for no label at all.

    What is asked for of every class leaves out those that the model has not learnt.

    Raises:
        UnknownLabel: a label that the model does not know, or has not learnt.
        NotFound: no such dataset of the owner's.
        InvalidRequest: a dataset that has nothing to be filled up.
    """
    if wanted.count is not None:
        return Asked([(batch_work.UNLABELLED, wanted.count)], [])
    known = learnt.of_model(session, model)
    if wanted.all is not None:
        return Asked([(label, wanted.all) for label in known.labels], known.notes(known.missing))
    if wanted.balance is not None:
        return _balanced(session, owner_id, wanted.balance, model, known)
    found: dict[int, int] = {}
    for name, count in (wanted.labels or {}).items():
        label = number_of(name, model)
        if label in found:
            raise InvalidRequest(
                f"The label {model.class_names[label]!r} is asked for twice, by name and by index; "
                "ask once.",
                field="labels",
            )
        found[label] = count
    known.refuse([model.class_names[label] for label in found], "labels")
    return Asked(sorted(found.items()), [])


def stretches(
    job_id: UUID, counts: Sequence[tuple[int, int]], *, position: int = 0, start: int = 0
) -> list[JobLabel]:
    """The rows of a plan whose first image has the index `start`."""
    parts = []
    for place, (label, count) in enumerate(counts, start=position):
        parts.append(
            JobLabel(job_id=job_id, position=place, label=label, start=start, requested=count)
        )
        start += count
    return parts


def number_of(name: str, model: Model) -> int:
    """The class of a name, or else of an index. Raises UnknownLabel."""
    if name in model.class_names:
        return model.class_names.index(name)
    count = len(model.class_names)
    if name.isascii() and name.isdigit() and len(name) <= len(str(count)) and int(name) < count:
        return int(name)
    known = ", ".join(model.class_names[:LISTED_LABELS])
    more = ", …" if count > LISTED_LABELS else ""
    raise UnknownLabel(
        f"The model {model.name!r} has no label {name[:80]!r}; it knows {known}{more}.",
        field="labels",
    )


def _balanced(
    session: Session, owner_id: UUID, wanted: Balance, model: Model, known: learnt.Learnt
) -> Asked:
    """What a dataset's training images lack to so many of each class, or to its largest."""
    dataset = find_dataset(session, owner_id, wanted.dataset)
    there = dataset.counts.get("train", [])
    strange = [name for name in dataset.class_names if name not in model.class_names]
    if strange:
        raise UnknownLabel(
            f"The dataset {dataset.name!r} has the label {strange[0][:80]!r}, which the model "
            f"{model.name!r} does not know; take a model that was trained on it.",
            field="balance.dataset",
        )
    most = wanted.to or max(there, default=0)
    lacking = {
        model.class_names.index(name): most - count
        for name, count in zip(dataset.class_names, there, strict=True)
        if count < most
    }
    notes = known.notes(model.class_names[label] for label in lacking)
    counts = sorted((label, lacking[label]) for label in known.labels if label in lacking)
    if not counts:
        what = "Every other class" if notes else "Every class"
        raise InvalidRequest(
            f"{what} of the dataset {dataset.name!r} has {most:,} images already; there is "
            f"nothing to add.{''.join(f' {note}' for note in notes)}",
            field="balance",
        )
    return Asked(counts, notes)
