"""Previews: a few images at once; what is asked for is made definite here, a worker makes them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.tables import Model
from datagen.errors import InvalidRequest
from datagen.schemas import (
    MOST_PREVIEWED,
    DecodeCreate,
    JobCreate,
    Made,
    Preview,
    PreviewCreate,
    PreviewImage,
    PreviewWork,
)
from datagen.service import batch_work, job_plans, learnt


@dataclass(frozen=True)
class Asked:
    """A preview that is being made: for whom, and what a worker is told."""

    model: schemas.ModelRef
    class_names: list[str]
    work: PreviewWork
    is_drawn: bool
    notes: list[str]


def drawn(session: Session, owner_id: UUID, reference: str, wanted: PreviewCreate) -> Asked:
    """Images as a job of the same seed would begin.

    Raises:
        NotFound, Conflict, UnknownLabel, InvalidRequest, Forbidden: as for a job.
        InvalidRequest: more images than a preview has.
    """
    told = wanted.model_dump(exclude={"format", "scale"})
    request = _job(reference, **told)
    model = job_plans.usable(session, owner_id, request)
    request, counts, notes = job_plans.resolved(session, owner_id, request, model)
    labels = [label for label, count in counts for _ in range(count)]
    if len(labels) > MOST_PREVIEWED:
        raise InvalidRequest(
            f"A preview has {MOST_PREVIEWED} images at most, and {len(labels):,} are asked for; "
            "ask for fewer, or create a job.",
            field="all" if wanted.all else "labels",
        )
    work = PreviewWork(
        model_id=model.id,
        owner_id=owner_id,
        reply_to=_reply_to(),
        labels=labels,
        seed=wanted.seed,
        sampler=request.sampler if request.sampler != "recommended" else "prior",
        temperature=request.temperature,
        truncation=request.truncation,
        strength=request.strength,
        gate=request.gate,
    )
    return _asked(model, work, notes, is_drawn=True)


def decoded(session: Session, owner_id: UUID, reference: str, wanted: DecodeCreate) -> Asked:
    """The images of given latents.

    Raises:
        NotFound, Conflict, UnknownLabel: as for a job.
        InvalidRequest: latents of another length, or not one label for each.
    """
    request = _job(reference, all=1)
    model = job_plans.usable(session, owner_id, request)
    config = model.config or {}
    dimensions = int(config.get("latent_dim", 0))
    for number, latent in enumerate(wanted.latents or []):
        if len(latent) != dimensions:
            raise InvalidRequest(
                f"Latent {number} has {len(latent)} numbers, and the model {model.name!r} has "
                f"{dimensions} latent dimensions; give as many.",
                field=f"latents.{number}",
            )
    for number, place in enumerate(wanted.coordinates or []):
        if not 1 <= len(place) <= dimensions:
            raise InvalidRequest(
                f"Place {number} has {len(place)} coordinates, and the model {model.name!r} has "
                f"{dimensions} principal directions; give 1 to {dimensions}.",
                field=f"coordinates.{number}",
            )
    count = len(wanted.latents or wanted.coordinates or [])
    names = wanted.labels
    if config.get("family", "cvae") == "cvae":
        if names is None or len(names) != count:
            raise InvalidRequest(
                f"{count} latents came with {len(names or [])} labels; give one for each.",
                field="labels",
            )
        labels = [job_plans.number_of(name, model) for name in names]
        known = learnt.of_model(session, model)
        known.refuse([model.class_names[label] for label in labels], "labels")
    elif names is not None:
        raise InvalidRequest(
            f"The model {model.name!r} knows no labels; leave 'labels' out.", field="labels"
        )
    else:
        labels = [batch_work.UNLABELLED] * count
    work = PreviewWork(
        model_id=model.id,
        owner_id=owner_id,
        reply_to=_reply_to(),
        labels=labels,
        latents=wanted.latents,
        coordinates=wanted.coordinates,
    )
    return _asked(model, work, [], is_drawn=False)


def _job(reference: str, **wanted: object) -> JobCreate:
    """A job's request; a reference that no model can have is looked up in vain, as any other."""
    request = JobCreate.model_validate({"model": "model", **wanted})
    return request.model_copy(update={"model": reference})


def to_schema(asked: Asked, made: Made) -> Preview:
    """The answer of the API to what a worker made."""
    names = asked.class_names
    columns = zip(made.labels, made.scores, made.judged_labels, made.pngs, strict=True)
    return Preview(
        model=asked.model,
        sampler=asked.work.sampler if asked.is_drawn else None,
        seed=asked.work.seed if asked.is_drawn else None,
        images=[
            PreviewImage(label=names[label], score=score, judged_label=names[judged], png=png)
            for label, score, judged, png in columns
        ],
        notes=asked.notes,
    )


def _asked(model: Model, work: PreviewWork, notes: list[str], *, is_drawn: bool) -> Asked:
    reference = schemas.ModelRef.model_validate(model)
    return Asked(reference, list(model.class_names), work, is_drawn, notes)


def _reply_to() -> str:
    return f"datagen:answer:{uuid.uuid4().hex}"
