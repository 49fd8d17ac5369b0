"""Reports: what labelled images are worth, from the request to the files.

A report belongs to the user who requested it, and is measured by that user's real images, or by
the sample that ships. Workers run it in slices; between two of them the store holds what was found.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.bundled import MODEL
from datagen.db.session import now
from datagen.db.tables import Dataset, Job, Model, Owner, Report, new_id
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.queue import RUN_REPORT, Message
from datagen.schemas import ENDED, Page, ReportCreate
from datagen.service import claims, learnt, sharing
from datagen.service.common import find_dataset, find_model, owned, page_of, split_digests
from datagen.service.figures import SAMPLE
from datagen.service.model_files import ModelFiles
from datagen.service.recommending import gate_of, sampler_of, strength_of
from datagen.service.sharing import BUNDLED_OWNER
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings
from datagen.storage import Storage

MEDIA_TYPES = {"report.json": "application/json", "report.html": "text/html; charset=utf-8"}


@dataclass(frozen=True)
class ReportWork:
    """All that a worker needs to know to go on with a report that it has claimed.

    Attributes:
        splits: of the dataset, each with the SHA-256 of its file; none for `sample:mnist`.
        subject: what the report says of itself.
        learnt: numbers of the classes that the model has learnt.
        notes: what is left out of a report on a model.
    """

    report_id: UUID
    attempt: int
    quick: bool
    images: int | None
    job_id: UUID | None
    images_stored: int
    files: ModelFiles
    class_names: tuple[str, ...]
    dataset_key: str
    storage_prefix: str | None
    splits: dict[str, str | None]
    state_key: str | None
    subject: dict[str, Any]
    learnt: tuple[int, ...]
    notes: list[str]


def create(
    session: Session, owner_id: UUID, request: ReportCreate
) -> tuple[schemas.Report, list[Message]]:
    """Have the images of a job or a model measured.

    Raises:
        NotFound: no such job, model or dataset.
        Conflict: the job has not ended, or the model's training has not succeeded.
        InvalidRequest: a job without images, a model without labels, or real images that do not
            fit or are not named.
    """
    job = None
    if request.job is not None:
        job = _ended_job(session, owner_id, request.job)
        model = session.get_one(Model, job.model_id)
    else:
        model = _sampled_model(session, owner_id, str(request.model))
    dataset = _real_images(session, owner_id, model, request.real)
    moment = now(session)
    report = Report(
        id=new_id(),
        owner_id=owner_id,
        model_id=model.id,
        job_id=None if job is None else job.id,
        dataset_id=None if dataset is None else dataset.id,
        dataset_key=SAMPLE if dataset is None else dataset.digest,
        quick=request.quick,
        images=request.images,
        state="queued",
        progress={},
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )
    session.add(report)
    session.flush()
    return _to_schema(session, report), [run_message(report.id)]


def run_message(report_id: UUID) -> Message:
    """The message that a report waits."""
    return Message(RUN_REPORT, {"report_id": str(report_id)})


def _ended_job(session: Session, owner_id: UUID, job_id: UUID) -> Job:
    job = owned(session, Job, owner_id, job_id)
    if job.state not in ENDED:
        raise Conflict(f"Job {job.id} is {job.state}; report on it when it has ended.")
    if job.images_stored == 0:
        raise InvalidRequest(
            f"Job {job.id} is {job.state} and has stored no images; there is nothing to report on.",
            field="job",
        )
    return job


def _sampled_model(session: Session, owner_id: UUID, reference: str) -> Model:
    model = find_model(session, owner_id, reference, usable=True)
    if model.state != "succeeded":
        raise Conflict(f"The model {model.name}@{model.version} is {model.state}; wait for it.")
    family = (model.config or model.options).get("family", "cvae")
    if family != "cvae":
        raise InvalidRequest(
            f"The model {model.name}@{model.version} is of the family {family!r}, which makes "
            "images of no label in particular; report on a job of it.",
            field="model",
        )
    return model


def _real_images(
    session: Session, owner_id: UUID, model: Model, reference: str | None
) -> Dataset | None:
    """The dataset to measure by; None stands for the sample that ships. Raises InvalidRequest."""
    if reference == SAMPLE and model.image_shape == [1, 28, 28]:
        return None
    if reference is not None:
        dataset = find_dataset(session, owner_id, reference)
    elif model.dataset_id is not None and model.owner_id == owner_id:
        dataset = session.get_one(Dataset, model.dataset_id)
    elif session.get_one(Owner, model.owner_id).name == BUNDLED_OWNER and model.name == MODEL.stem:
        return None
    else:
        raise InvalidRequest(
            f"What the model {model.name}@{model.version} was trained on is not here, or not "
            "yours; name a dataset of real images with 'real'.",
            field="real",
        )
    what = f"The dataset {dataset.name}@{dataset.version}"
    if dataset.removed_at is not None:
        raise InvalidRequest(f"{what} was removed; name another with 'real'.", field="real")
    if dataset.image_shape != model.image_shape:
        raise InvalidRequest(
            f"{what} has images of {_size(dataset.image_shape)} and the model "
            f"{model.name}@{model.version} makes {_size(model.image_shape)}; name one that fits.",
            field="real",
        )
    if not set(dataset.class_names) & set(model.class_names):
        raise InvalidRequest(
            f"{what} and the model {model.name}@{model.version} have no label in common; name one "
            "that fits.",
            field="real",
        )
    return dataset


def _size(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def read(session: Session, owner_id: UUID, report_id: UUID) -> schemas.Report:
    """A report of the owner's. Raises NotFound."""
    return _to_schema(session, owned(session, Report, owner_id, report_id))


def list_reports(
    session: Session,
    owner_id: UUID,
    *,
    job_id: UUID | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[schemas.Report]:
    """The owner's reports, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(Report).where(Report.owner_id == owner_id)
    if job_id is not None:
        query = query.where(Report.job_id == job_id)
    rows, following = page_of(session, query, Report, limit, cursor)
    return Page(
        items=skip_unreadable(rows, lambda some: [_to_schema(session, row) for row in some]),
        next_cursor=following,
    )


def cancel(session: Session, owner_id: UUID, report_id: UUID) -> schemas.Report:
    """End a report now.

    Raises:
        NotFound: no such report of the owner's.
        Conflict: it has ended already.
    """
    owned(session, Report, owner_id, report_id)
    moment = now(session)
    changed = session.execute(
        update(Report)
        .where(Report.id == report_id, Report.state.not_in(sorted(ENDED)))
        .values(state="cancelled", lease_until=None, state_key=None, ended_at=moment)
        .returning(Report.id)
    ).first()
    report = session.get_one(Report, report_id, populate_existing=True)
    if changed is None:
        raise Conflict(f"Report {report_id} is {report.state} already; there is nothing to cancel.")
    return _to_schema(session, report)


def remove(session: Session, owner_id: UUID, report_id: UUID) -> None:
    """Remove a report that has ended; its files follow when the store is swept.

    Raises:
        NotFound: no such report of the owner's.
        Conflict: it has not ended.
    """
    report = owned(session, Report, owner_id, report_id)
    if report.state not in ENDED:
        raise Conflict(f"Report {report_id} is {report.state}; cancel it first.")
    session.delete(report)
    session.flush()


def read_file(
    session: Session, storage: Storage, owner_id: UUID, report_id: UUID, name: str
) -> tuple[bytes, str, str]:
    """One of a report's files, its media type, and the digest of them all.

    Raises:
        NotFound: no such report or file.
        Conflict: the report has not succeeded.
    """
    report = owned(session, Report, owner_id, report_id)
    if name not in MEDIA_TYPES:
        raise NotFound(f"A report has no file {name[:60]!r}; it has {', '.join(MEDIA_TYPES)}.")
    if report.state != "succeeded":
        why = f": {report.error}" if report.error else ""
        raise Conflict(f"Report {report_id} is {report.state}{why}; it has no files.")
    try:
        with storage.open(str(report.archive_key)) as file, zipfile.ZipFile(file) as archive:
            return archive.read(name), MEDIA_TYPES[name], str(report.digest)
    except FileNotFoundError:
        raise NotFound("The report is missing from the storage; ask for it anew.") from None


def _to_schema(session: Session, report: Report) -> schemas.Report:
    plain = {name: getattr(report, name, None) for name in schemas.Report.model_fields}
    model = session.get_one(Model, report.model_id)
    return schemas.Report.model_validate(
        plain
        | {
            "model": schemas.ModelRef.model_validate(model),
            "job": report.job_id,
            "dataset": report.dataset_id,
        }
    )


def claim(session: Session, settings: Settings, report_id: UUID) -> ReportWork | None:
    """Take a report; None where somebody has it, had it, or it was cancelled."""
    row = claims.claim(session, settings, Report, report_id)
    if row is None:
        return None
    return claims.read_claimed(session, settings, row, lambda: _work_of(session, row))


def _work_of(session: Session, row: Report) -> ReportWork:
    model = session.get_one(Model, row.model_id)
    job = None if row.job_id is None else session.get_one(Job, row.job_id)
    dataset = None if row.dataset_id is None else session.get_one(Dataset, row.dataset_id)
    if job is None:
        # Images of the model are made for it.
        sharing.refuse_withdrawn(model, row.owner_id)
    known = learnt.of_model(session, model)
    return ReportWork(
        report_id=row.id,
        attempt=row.attempt,
        quick=row.quick,
        images=row.images,
        job_id=row.job_id,
        images_stored=0 if job is None else job.images_stored,
        files=ModelFiles.of(model),
        class_names=tuple(model.class_names),
        dataset_key=row.dataset_key,
        storage_prefix=None if dataset is None else dataset.storage_prefix,
        splits=split_digests(dataset),
        state_key=row.state_key,
        subject=_subject(row.owner_id, model, job, dataset),
        learnt=tuple(known.labels),
        # A job says itself what was left out of it.
        notes=known.notes(known.missing) if job is None else list(job.notes or []),
    )


def _subject(
    owner_id: UUID, model: Model, job: Job | None, dataset: Dataset | None
) -> dict[str, Any]:
    """What is reported on: a job as it was made, or a model as a job makes images of it."""
    if job is None:
        sampler = sampler_of(model, owner_id)
        wanted = gate_of(model, sampler, 1.0)
        gate = None if wanted is None else wanted.model_dump()
        strength = strength_of(model, sampler)
    else:
        sampler, gate, strength = job.sampler, job.gate, job.strength
    return {
        "model": f"{model.name}@{model.version}",
        "model_digest": model.digest,
        "job": None if job is None else str(job.id),
        "sampler": sampler,
        "temperature": 1.0 if job is None else job.temperature,
        "truncation": None if job is None else job.truncation,
        "strength": strength,
        "gate": gate,
        "seed": 0 if job is None else job.seed,
        "real": SAMPLE if dataset is None else f"{dataset.name}@{dataset.version}",
        "real_digest": None if dataset is None else dataset.digest,
    }


def record_progress(session: Session, work: ReportWork, progress: dict[str, Any]) -> bool:
    """Tell how far a report is; False where it is no longer the worker's."""
    return _change(session, work, progress=progress)


def finish_slice(session: Session, work: ReportWork, state_key: str) -> list[Message]:
    """Put a report back in the queue, to go on from `state_key`; [] where it was taken over."""
    moment = now(session)
    kept = _change(
        session,
        work,
        state="queued",
        state_key=state_key,
        attempt_floor=work.attempt,
        lease_until=None,
        error=None,
        available_at=moment,
        sent_at=moment,
    )
    return [run_message(work.report_id)] if kept else []


def close(
    session: Session,
    work: ReportWork,
    *,
    key: str,
    digest: str,
    size: int,
    outcome: str,
    sentence: str,
) -> bool:
    """Record what was found; False, and nothing written, where it was taken over."""
    return _change(
        session,
        work,
        state="succeeded",
        archive_key=key,
        digest=digest,
        bytes=size,
        outcome=outcome,
        sentence=sentence,
        state_key=None,
        lease_until=None,
        error=None,
        ended_at=now(session),
    )


def _change(session: Session, work: ReportWork, **values: object) -> bool:
    return claims.change(session, Report, work.report_id, work.attempt, **values)
