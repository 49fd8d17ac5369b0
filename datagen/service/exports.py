"""Exports: what a job has stored, written in a format and kept as one zip archive."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any
from uuid import UUID

import stamina
import structlog
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now, writing
from datagen.db.tables import Export, Job, JobLabel, Model, new_id
from datagen.errors import (
    Cancelled,
    Conflict,
    InvalidRequest,
    StorageFailure,
    reason_of,
)
from datagen.export.formats import known_format, write_export
from datagen.export.info import ExportInfo
from datagen.export.sinks import ZipSink
from datagen.queue import RUN_EXPORT, Message
from datagen.schemas import ENDED, ExportCreate, Page
from datagen.service import claims
from datagen.service.batch_work import UNLABELLED
from datagen.service.common import owned, page_of
from datagen.service.lease import Lease
from datagen.service.stored_samples import read_samples
from datagen.settings import Settings
from datagen.shards import SampleBatch
from datagen.storage import CHUNK_BYTES, Storage

TOLD_SECONDS = 1.0
RETRY_SECONDS = 20.0

log = structlog.get_logger()


def create(
    session: Session, owner_id: UUID, request: ExportCreate
) -> tuple[schemas.Export, list[Message]]:
    """Write an export of an ended job, whatever its end was, if it has stored anything.

    Raises:
        InvalidRequest: an unknown format, or a job without images.
        NotFound: no such job of the owner's.
        Conflict: the job has not ended.
    """
    known_format(request.format)
    job = owned(session, Job, owner_id, request.job)
    if job.state not in ENDED:
        raise Conflict(f"Job {job.id} is {job.state}; export it when it has ended.")
    if job.images_stored == 0:
        raise InvalidRequest(
            f"Job {job.id} is {job.state} and has stored no images; there is nothing to export.",
            field="job",
        )
    moment = now(session)
    export = Export(
        id=new_id(),
        owner_id=owner_id,
        job_id=job.id,
        format=request.format,
        state="queued",
        images_written=0,
        images_total=job.images_stored,
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )
    session.add(export)
    session.flush()
    return shown(export), [Message(RUN_EXPORT, {"export_id": str(export.id)})]


def shown(export: Export) -> schemas.Export:
    """The wire form of an export."""
    plain = {name: getattr(export, name, None) for name in schemas.Export.model_fields}
    return schemas.Export.model_validate(plain | {"job": export.job_id})


def read(session: Session, owner_id: UUID, export_id: UUID) -> schemas.Export:
    """An export of the owner's. Raises NotFound."""
    return shown(owned(session, Export, owner_id, export_id))


def list_exports(
    session: Session,
    owner_id: UUID,
    *,
    job_id: UUID | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[schemas.Export]:
    """The owner's exports, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(Export).where(Export.owner_id == owner_id)
    if job_id is not None:
        query = query.where(Export.job_id == job_id)
    rows, following = page_of(session, query, Export, limit, cursor)
    return Page(items=[shown(row) for row in rows], next_cursor=following)


def archive(session: Session, owner_id: UUID, export_id: UUID) -> Export:
    """The row of an export whose archive can be fetched.

    Raises:
        NotFound: no such export of the owner's.
        Conflict: it is not ready.
    """
    export = owned(session, Export, owner_id, export_id)
    if export.state != "succeeded":
        why = f": {export.error}" if export.state == "failed" and export.error else ""
        raise Conflict(
            f"Export {export_id} is {export.state}{why}; only one that has succeeded can be "
            "downloaded."
        )
    return export


@dataclass(frozen=True)
class ExportWork:
    """All that a worker needs to know to write an export that it has claimed."""

    export_id: UUID
    job_id: UUID
    attempt: int
    format: str
    info: ExportInfo


@dataclass(frozen=True)
class _Archive:
    key: str
    digest: str
    size: int


def run(engine: Engine, storage: Storage, settings: Settings, export_id: UUID) -> None:
    """Claim an export, write its archive and record it; safe to be told of twice."""
    work = _claim(engine, settings, export_id)
    if work is None:
        return
    try:
        with Lease(engine, settings, Export, work.export_id, work.attempt) as lease:
            written = _write(engine, storage, work, lease)
            closed = _close(engine, work, written)
    except Cancelled as stop:
        log.info("export_stopped", export=str(export_id), reason=stop.detail)
    except InvalidRequest as error:
        _end(engine, settings, work, error, final=True)
    except (OSError, DBAPIError, RuntimeError, MemoryError, StorageFailure) as error:
        _end(engine, settings, work, error, final=False)
    else:
        if not closed:
            log.warning("export_superseded", export=str(export_id), attempt=work.attempt)


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _claim(engine: Engine, settings: Settings, export_id: UUID) -> ExportWork | None:
    with writing(engine) as session:
        export = claims.claim(session, settings, Export, export_id)
        if export is None:
            return None
        export.images_written = 0
        return ExportWork(
            export_id=export.id,
            job_id=export.job_id,
            attempt=export.attempt,
            format=export.format,
            info=_info(session, export),
        )


def _info(session: Session, export: Export) -> ExportInfo:
    job = session.get_one(Job, export.job_id)
    model = session.get_one(Model, job.model_id)
    return ExportInfo(
        class_names=tuple(model.class_names),
        image_shape=(model.image_shape[0], model.image_shape[1], model.image_shape[2]),
        job_id=str(job.id),
        request=_request(session, job, model),
        model_name=model.name,
        model_version=model.version,
        model_digest=str(model.digest),
        seed=job.seed,
        temperature=job.temperature,
        sampler=job.sampler,
        truncation=job.truncation,
        created_at=job.created_at,
        images_total=export.images_total,
        partial=job.state != "succeeded",
    )


def _request(session: Session, job: Job, model: Model) -> dict[str, Any]:
    plan = session.execute(
        select(JobLabel.label, JobLabel.requested)
        .where(JobLabel.job_id == job.id, JobLabel.requested > 0)
        .order_by(JobLabel.position)
    ).all()
    asked: dict[str, Any] = {
        "labels": {model.class_names[label]: requested for label, requested in plan}
    }
    if plan[0].label == UNLABELLED:
        asked = {"count": plan[0].requested, "labelled_by": "judge"}
    return {
        "model": f"{model.name}@{model.version}",
        **asked,
        "seed": job.seed,
        "sampler": job.sampler,
        "temperature": job.temperature,
        "truncation": job.truncation,
        "gate": job.gate,
    }


def _write(engine: Engine, storage: Storage, work: ExportWork, lease: Lease) -> _Archive:
    samples = read_samples(engine, storage, work.job_id)
    with tempfile.TemporaryFile(prefix="datagen-export-") as file:
        with ZipSink(file) as sink:
            write_export(work.format, _followed(engine, work, lease, samples), work.info, sink)
        size = file.tell()
        digest = _digest(file)
        key = f"exports/{work.export_id}/{digest[:32]}.zip"
        lease.check()
        file.seek(0)
        storage.put(key, file)
    return _Archive(key, digest, size)


def _followed(
    engine: Engine, work: ExportWork, lease: Lease, samples: Iterable[SampleBatch]
) -> Iterator[SampleBatch]:
    """The samples as they come; tells how far the export is, and stops it when it was lost."""
    written, told_at = 0, time.monotonic()
    for part in samples:
        yield part
        lease.check()
        written += len(part)
        if time.monotonic() - told_at >= TOLD_SECONDS:
            _tell(engine, work, written)
            told_at = time.monotonic()


def _tell(engine: Engine, work: ExportWork, written: int) -> None:
    try:
        with writing(engine) as session:
            session.execute(
                update(Export)
                .where(claims.held(Export, work.export_id, work.attempt))
                .values(images_written=written)
            )
    except OperationalError as error:
        # A figure to look at; a database that restarts need not end an export.
        log.warning("progress_not_recorded", export=str(work.export_id), error=str(error.orig))


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(CHUNK_BYTES):
        digest.update(block)
    return digest.hexdigest()


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _close(engine: Engine, work: ExportWork, written: _Archive) -> bool:
    with writing(engine) as session:
        return _change(
            session,
            work,
            state="succeeded",
            images_written=work.info.images_total,
            archive_key=written.key,
            digest=written.digest,
            bytes=written.size,
            error=None,
        )


def _change(session: Session, work: ExportWork, **values: Any) -> bool:
    """End the export, if it is still the worker's."""
    changed = session.execute(
        update(Export)
        .where(claims.held(Export, work.export_id, work.attempt))
        .values(lease_until=None, ended_at=now(session), **values)
        .returning(Export.id)
    )
    return changed.first() is not None


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _end(
    engine: Engine, settings: Settings, work: ExportWork, error: Exception, *, final: bool
) -> None:
    reason = reason_of(error)
    log.warning(
        "export_not_written", export=str(work.export_id), attempt=work.attempt, reason=reason
    )
    with writing(engine) as session:
        if final:
            _change(session, work, state="failed", error=reason)
        elif work.attempt >= settings.max_attempts:
            gave_up = f"Gave up after {work.attempt} attempts: {reason}"
            _change(session, work, state="failed", error=gave_up)
        else:
            claims.release(session, settings, Export, work.export_id, work.attempt, reason)
