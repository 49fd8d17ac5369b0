"""Jobs: requests for images, from creation to reading what they gave."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Batch, ExportJob, Job, JobLabel, Model, Sample, new_id
from datagen.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    UnknownLabel,
)
from datagen.export.formats import known_format
from datagen.quality.gate import REASONS
from datagen.queue import MAKE_BATCHES, Message
from datagen.schemas import ENDED, STARTING_FROM_IMAGES, Gate, JobCreate, Page
from datagen.service import batch_work, batches, counting, quotas
from datagen.service.common import (
    MAX_PAGE,
    decode_id_cursor,
    decode_index_cursor,
    encode_cursor,
    find_model,
    image_shape,
    owned,
)
from datagen.service.recommending import gate_of, refuse_unfit_sampler, sampler_of
from datagen.settings import Settings
from datagen.shards import read_sample as read_shard_sample
from datagen.storage import Storage

LISTED_LABELS = 20
# Enough to keep some workers busy until the control task has cut the others; each one costs whoever
# waits for the answer a millisecond.
CUT_AT_ONCE = 8


def create(
    session: Session, settings: Settings, owner_id: UUID, request: JobCreate
) -> tuple[schemas.Job, list[Message]]:
    """Write a job and cut its first batches.

    Raises:
        NotFound: no such model.
        Conflict: the model is not trained yet.
        UnknownLabel: a label that the model does not know.
        QuotaExceeded: more images than the owner may have.
        InvalidRequest: an unknown export format, or a sampler or gate for which the model keeps
            nothing.
        Forbidden: a sampler that starts from another owner's images.
    """
    model = find_model(session, owner_id, request.model, usable=True)
    if model.state != "succeeded":
        raise Conflict(
            f"The model {request.model!r} is {model.state}; wait until its training has succeeded."
        )
    request = _settled(request, model, owner_id)
    _refuse_unfit_labels(request, model)
    refuse_unfit_sampler(owner_id, request.sampler, model)
    if request.gate is not None:
        _refuse_unfit_gate(request, request.gate, model)
    counts = _counts(request, model)
    for name in request.exports:
        known_format(name).refuse(image_shape(model), model.class_names, ["train"])
    total = sum(count for _, count in counts)
    quotas.take_images(session, settings, owner_id, total)
    moment = now(session)
    job = Job(
        id=new_id(),
        owner_id=owner_id,
        model_id=model.id,
        state="queued",
        seed=secrets.randbits(63) if request.seed is None else request.seed,
        sampler=request.sampler,
        temperature=request.temperature,
        truncation=request.truncation,
        gate=None if request.gate is None else request.gate.model_dump(),
        images_requested=total,
        batch_size=settings.batch_size,
        follow_exports=list(dict.fromkeys(request.exports)),
        created_at=moment,
    )
    session.add(job)
    session.flush()
    session.add_all(_plan(job.id, counts))
    session.flush()
    messages = batches.make_batches(session, settings, most=CUT_AT_ONCE)
    return _shown(session, [job])[0], messages


def _settled(request: JobCreate, model: Model, owner_id: UUID) -> JobCreate:
    """The request with what it leaves to the model filled in."""
    changes: dict[str, object] = {}
    if request.sampler == "recommended":
        changes["sampler"] = sampler_of(model, owner_id, labelled=request.count is None)
    if request.leaves_gate_to_model:
        changes["gate"] = gate_of(model, request.temperature)
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


def _counts(request: JobCreate, model: Model) -> list[tuple[int, int]]:
    """Pairs of label and count, in the order of the model's classes; one for no label at all."""
    if request.count is not None:
        return [(batch_work.UNLABELLED, request.count)]
    if request.labels is None:
        return [(label, request.all or 0) for label in range(len(model.class_names))]
    number = {name: label for label, name in enumerate(model.class_names)}
    unknown = [name for name in request.labels if name not in number]
    if unknown:
        known = ", ".join(model.class_names[:LISTED_LABELS])
        more = ", …" if len(model.class_names) > LISTED_LABELS else ""
        raise UnknownLabel(
            f"The model {model.name!r} has no label {unknown[0][:80]!r}; it knows {known}{more}.",
            field="labels",
        )
    return sorted((number[name], count) for name, count in request.labels.items())


def _plan(job_id: UUID, counts: Sequence[tuple[int, int]]) -> list[JobLabel]:
    parts, start = [], 0
    for position, (label, count) in enumerate(counts):
        parts.append(
            JobLabel(job_id=job_id, position=position, label=label, start=start, requested=count)
        )
        start += count
    return parts


def read(session: Session, owner_id: UUID, job_id: UUID) -> schemas.Job:
    """A job of the owner's. Raises NotFound."""
    return _shown(session, [owned(session, Job, owner_id, job_id)])[0]


def list_jobs(
    session: Session,
    owner_id: UUID,
    *,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[schemas.Job]:
    """The owner's jobs, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(Job).where(Job.owner_id == owner_id).order_by(Job.id.desc())
    if state is not None:
        query = query.where(Job.state == state)
    if cursor is not None:
        query = query.where(Job.id < decode_id_cursor(cursor))
    limit = min(limit, MAX_PAGE)
    rows = list(session.scalars(query.limit(limit + 1)))
    following = encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None
    return Page(items=_shown(session, rows[:limit]), next_cursor=following)


def cancel(session: Session, owner_id: UUID, job_id: UUID) -> tuple[schemas.Job, list[Message]]:
    """End a job now; what it has stored stays, and its workers stop at their next look.

    Raises:
        NotFound: no such job of the owner's.
        Conflict: the job has ended already.
    """
    owned(session, Job, owner_id, job_id)
    job = session.scalars(
        select(Job)
        .where(Job.id == job_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if job.state in ENDED:
        raise Conflict(f"Job {job_id} is {job.state} already; there is nothing to cancel.")
    moment = now(session)
    job.state, job.ended_at = "cancelled", moment
    batches.cancel_open(session, job_id, moment)
    session.flush()
    return _shown(session, [job])[0], [Message(MAKE_BATCHES)]


def list_samples(
    session: Session,
    owner_id: UUID,
    job_id: UUID,
    *,
    label: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[schemas.Sample]:
    """The samples that a job has stored, by index.

    Raises:
        NotFound: no such job of the owner's.
        UnknownLabel: a label that the job's model does not know.
        InvalidRequest: a bad cursor.
    """
    job = owned(session, Job, owner_id, job_id)
    names = session.get_one(Model, job.model_id).class_names
    query = select(Sample).where(Sample.job_id == job_id).order_by(Sample.index)
    if label is not None:
        query = query.where(Sample.label == _label_number(names, label))
        first, last = _range_of(session, job_id, names.index(label))
        # A label that was asked for is a range of indices: the primary key finds it, whatever the
        # job's size. Those that the judge gave may stand anywhere.
        if last:
            query = query.where(Sample.index >= first, Sample.index < last)
    if cursor is not None:
        query = query.where(Sample.index > decode_index_cursor(cursor))
    limit = min(limit, MAX_PAGE)
    rows = list(session.scalars(query.limit(limit + 1)))
    following = encode_cursor(rows[limit - 1].index) if len(rows) > limit else None
    items = [_sample(job, row, names) for row in rows[:limit]]
    return Page(items=items, next_cursor=following)


def _label_number(names: Sequence[str], label: str) -> int:
    if label not in names:
        known = ", ".join(names[:LISTED_LABELS])
        raise UnknownLabel(
            f"The job's model has no label {label[:80]!r}; it knows {known}.", field="label"
        )
    return names.index(label)


def _range_of(session: Session, job_id: UUID, label: int) -> tuple[int, int]:
    first, last = session.execute(
        select(func.min(JobLabel.start), func.max(JobLabel.start + JobLabel.requested)).where(
            JobLabel.job_id == job_id, JobLabel.label == label
        )
    ).one()
    return (first or 0), (last or 0)


def read_sample(session: Session, owner_id: UUID, job_id: UUID, index: int) -> schemas.Sample:
    """One sample's metadata. Raises NotFound."""
    job = owned(session, Job, owner_id, job_id)
    names = session.get_one(Model, job.model_id).class_names
    return _sample(job, _stored_sample(session, job_id, index), names)


def sample_image(
    session: Session, storage: Storage, owner_id: UUID, job_id: UUID, index: int
) -> bytes:
    """One sample's PNG. Raises NotFound."""
    owned(session, Job, owner_id, job_id)
    _stored_sample(session, job_id, index)
    batch = session.scalars(
        select(Batch).where(Batch.job_id == job_id, Batch.start <= index, Batch.stop > index)
    ).one()
    # Images that a gate left out take no row of the shard.
    row = session.scalar(
        select(func.count()).where(
            Sample.job_id == job_id, Sample.index >= batch.start, Sample.index < index
        )
    )
    try:
        with storage.open(str(batch.shard_key)) as shard:
            return read_shard_sample(shard, row or 0)
    except FileNotFoundError:
        raise NotFound(
            f"The shard {batch.shard_key} of job {job_id} is missing from the storage."
        ) from None


def _stored_sample(session: Session, job_id: UUID, index: int) -> Sample:
    row = session.get(Sample, (job_id, index)) if 0 <= index < 2**63 else None
    if row is None:
        raise NotFound(f"Job {job_id} has stored no sample {index}.")
    return row


def _sample(job: Job, row: Sample, names: Sequence[str]) -> schemas.Sample:
    sources = [row.first_source, row.second_source]
    return schemas.Sample(
        index=row.index,
        label=names[row.label],
        score=row.score,
        judged_label=names[row.judged_label],
        attempt=row.attempt,
        sampler=job.sampler,
        sources=[source for source in sources if source >= 0],
        digest=row.digest.hex(),
    )


def _shown(session: Session, jobs: Sequence[Job]) -> list[schemas.Job]:
    """The wire form of jobs, read with three queries however many there are."""
    ids = [job.id for job in jobs]
    models = {
        model.id: model
        for model in session.scalars(
            select(Model).where(Model.id.in_({job.model_id for job in jobs}))
        )
    }
    parts: dict[UUID, list[JobLabel]] = defaultdict(list)
    for part in session.scalars(
        select(JobLabel).where(JobLabel.job_id.in_(ids)).order_by(JobLabel.position)
    ):
        parts[part.job_id].append(part)
    exports: dict[UUID, list[UUID]] = defaultdict(list)
    for job_id, export_id in session.execute(
        select(ExportJob.job_id, ExportJob.export_id)
        .where(ExportJob.job_id.in_(ids))
        .order_by(ExportJob.export_id)
    ):
        exports[job_id].append(export_id)
    return [_show(job, models[job.model_id], parts[job.id], exports[job.id]) for job in jobs]


def _show(
    job: Job, model: Model, parts: Sequence[JobLabel], exports: Sequence[UUID]
) -> schemas.Job:
    judged = any(part.label == batch_work.UNLABELLED for part in parts)
    return schemas.Job.model_validate(
        {
            **{name: getattr(job, name) for name in _PLAIN},
            "model": schemas.ModelRef.model_validate(model),
            "labelled_by": "judge" if judged else "request",
            "labels": [
                _progress(part, model.class_names, judged=judged)
                for part in parts
                if part.label != batch_work.UNLABELLED
            ],
            "seconds": {
                stage: round(getattr(job, f"seconds_{stage}"), 4)
                for stage in schemas.StageSeconds.model_fields
            },
            "exports": list(exports),
        }
    )


_PLAIN = (
    "id",
    "state",
    "seed",
    "sampler",
    "temperature",
    "truncation",
    "gate",
    "images_requested",
    "images_stored",
    "images_short",
    "error",
    "created_at",
    "started_at",
    "ended_at",
)


def _progress(part: JobLabel, names: Sequence[str], *, judged: bool) -> schemas.LabelProgress:
    stored = part.stored
    return schemas.LabelProgress(
        label=names[part.label],
        requested=None if judged else part.requested,
        stored=stored,
        mean_score=part.score_sum / counting.SCORE_UNITS / stored if stored else None,
        agreement=part.agreed / stored if stored and not judged else None,
        rejected={reason: getattr(part, f"rejected_{reason}") for reason in REASONS},
        short=part.short,
    )
