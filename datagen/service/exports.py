"""Exports: images of jobs and datasets in a format, from asking for one to fetching it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine, delete, or_, select, update
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now, writing
from datagen.db.tables import Dataset, Export, ExportJob, Job, new_id
from datagen.errors import (
    Conflict,
    Gone,
    InvalidRequest,
    NotFound,
)
from datagen.export.formats import known_format
from datagen.export.packed import Packed
from datagen.queue import RUN_EXPORT, Message
from datagen.schemas import ENDED, ExportCreate, Page
from datagen.service import quotas
from datagen.service.common import owned, page_of
from datagen.service.destinations import check_destination
from datagen.service.export_contents import Contents, resolve
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings
from datagen.storage import Storage

log = structlog.get_logger()


def create(
    session: Session, settings: Settings, owner_id: UUID, request: ExportCreate
) -> tuple[schemas.Export, list[Message]]:
    """Write images of ended jobs, whatever their ends were, and of a dataset, in a format.

    Raises:
        InvalidRequest: an unknown format or one that cannot hold the images, sources that do not
            fit together, a plan that cannot be met, nothing to export, or a destination that is
            not allowed.
        NotFound: no such job or dataset of the owner's.
        Conflict: a job has not ended.
    """
    layout = known_format(request.format)
    if request.destination is not None:
        check_destination(settings, request.destination, request.path)
    contents = resolve(session, owner_id, request)
    quotas.take_bytes(session, settings, owner_id)
    layout.refuse(contents.image_shape, contents.class_names, contents.counts)
    export, message = added(session, owner_id, request, contents, now(session))
    return to_schemas(session, [export])[0], [message]


def following(
    session: Session, job: Job, formats: Sequence[str], moment: datetime
) -> list[Message]:
    """Exports of a job that has just succeeded, one in each format."""
    messages = []
    for name in formats:
        request = ExportCreate(job=job.id, format=name)
        try:
            contents = resolve(session, job.owner_id, request)
        except InvalidRequest as error:
            # A gate may have let nothing pass.
            log.warning("export_not_begun", job=str(job.id), format=name, reason=error.detail)
            continue
        messages.append(added(session, job.owner_id, request, contents, moment)[1])
    return messages


def added(
    session: Session, owner_id: UUID, request: ExportCreate, contents: Contents, moment: datetime
) -> tuple[Export, Message]:
    """The row of a new export, and the message that has it written."""
    jobs = request.all_jobs
    export = Export(
        id=new_id(),
        owner_id=owner_id,
        job_id=jobs[0] if jobs else None,
        dataset_id=None if contents.real is None else contents.real.dataset_id,
        format=request.format,
        request=request.model_dump(mode="json"),
        warnings=[
            *contents.warnings,
            *known_format(request.format).warnings(contents.class_names, contents.counts),
        ],
        state="queued",
        images_written=0,
        images_total=contents.images_total,
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )
    session.add(export)
    session.flush()
    session.add_all(
        ExportJob(export_id=export.id, position=position, job_id=job_id)
        for position, job_id in enumerate(jobs)
    )
    session.flush()
    return export, Message(RUN_EXPORT, {"export_id": str(export.id)})


def to_schemas(session: Session, exports: Sequence[Export]) -> list[schemas.Export]:
    """The wire form of exports."""
    jobs: dict[UUID, list[UUID]] = {export.id: [] for export in exports}
    for export_id, job_id in session.execute(
        select(ExportJob.export_id, ExportJob.job_id)
        .where(ExportJob.export_id.in_(list(jobs)))
        .order_by(ExportJob.export_id, ExportJob.position)
    ):
        jobs[export_id].append(job_id)
    return [_to_schema(session, export, jobs[export.id]) for export in exports]


def _to_schema(session: Session, export: Export, jobs: list[UUID]) -> schemas.Export:
    plain = {name: getattr(export, name, None) for name in schemas.Export.model_fields}
    dataset = None if export.dataset_id is None else session.get(Dataset, export.dataset_id)
    return schemas.Export.model_validate(
        plain
        | {
            "job": export.job_id,
            "jobs": jobs or ([] if export.job_id is None else [export.job_id]),
            "dataset": None if dataset is None else f"{dataset.name}@{dataset.version}",
            "request": _request_schema(export),
            "warnings": export.warnings or [],
            "expired": export.state == "succeeded"
            and export.location is None
            and (export.archive_key is None or _is_over(export, now(session))),
        }
    )


def _request_schema(export: Export) -> ExportCreate | None:
    """The request; None where an earlier version accepted what this one refuses."""
    try:
        return requested(export)
    except ValidationError:
        return None


def requested(export: Export) -> ExportCreate:
    """The request; an earlier version wrote the job and the format alone."""
    if export.request:
        return ExportCreate.model_validate(export.request)
    return ExportCreate(job=export.job_id, format=export.format)


def read(session: Session, owner_id: UUID, export_id: UUID) -> schemas.Export:
    """An export of the owner's. Raises NotFound."""
    return to_schemas(session, [owned(session, Export, owner_id, export_id)])[0]


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
        has_job = select(ExportJob.export_id).where(ExportJob.job_id == job_id)
        query = query.where(or_(Export.job_id == job_id, Export.id.in_(has_job)))
    rows, following_page = page_of(session, query, Export, limit, cursor)
    return Page(
        items=skip_unreadable(rows, lambda some: to_schemas(session, some)),
        next_cursor=following_page,
    )


def located(session: Session, owner_id: UUID) -> Sequence[tuple[UUID, str]]:
    """The owner's exports that lie in destinations, each with its place."""
    found = select(Export.id, Export.location).where(
        Export.owner_id == owner_id, Export.location.is_not(None)
    )
    return [(row.id, str(row.location)) for row in session.execute(found)]


@dataclass(frozen=True)
class StoredExport:
    """An export's files in the store.

    Attributes:
        export_id, format: of the export.
        archive_key: of the zip.
        digest, size: of the zip, SHA-256 and bytes.
        files_key: of the list of its files; None where a version before wrote it.
    """

    export_id: UUID
    format: str
    archive_key: str
    digest: str
    size: int
    files_key: str | None


def archive(session: Session, owner_id: UUID | None, export_id: UUID) -> StoredExport:
    """Where the files of an export lie, if they can be fetched; of any owner's where it is None.

    Raises:
        NotFound: no such export of the owner's.
        Conflict: it is not ready.
        Gone: it has expired.
    """
    export = _one(session, owner_id, export_id)
    if export.state != "succeeded":
        why = f": {export.error}" if export.state == "failed" and export.error else ""
        raise Conflict(
            f"Export {export_id} is {export.state}{why}; only one that has succeeded can be "
            "downloaded."
        )
    if export.location is not None:
        raise Conflict(
            f"Export {export_id} lies in a destination, at {export.location}; fetch it there."
        )
    if export.archive_key is None or _is_over(export, now(session)):
        raise Gone(
            f"Export {export_id} expired on {export.expires_at:%Y-%m-%d}; create it again: the "
            "same request gives the same files."
        )
    return StoredExport(
        export_id=export.id,
        format=export.format,
        archive_key=export.archive_key,
        digest=str(export.digest),
        size=int(export.bytes or 0),
        files_key=export.files_key,
    )


def _one(session: Session, owner_id: UUID | None, export_id: UUID) -> Export:
    if owner_id is not None:
        return owned(session, Export, owner_id, export_id)
    export = session.get(Export, export_id)
    if export is None:
        raise NotFound(f"There is no export {export_id}.")
    return export


def _is_over(export: Export, moment: datetime) -> bool:
    return export.expires_at is not None and export.expires_at <= moment


def opened(storage: Storage, found: StoredExport) -> Packed:
    """The files of an export, to be read one by one or as a tar; to be closed.

    Raises:
        NotFound: they are missing from the storage.
        Conflict: a version before wrote the export, without the list of its files.
    """
    if found.files_key is None:
        raise Conflict(
            f"Export {found.export_id} was written by an earlier version and comes as a zip only; "
            "create it again for single files and tar."
        )
    files = opened_file(storage, found, found.files_key)
    try:
        archive_file = opened_file(storage, found, found.archive_key)
    except BaseException:
        files.close()
        raise
    return Packed(files, archive_file)


def opened_file(storage: Storage, found: StoredExport, key: str) -> BinaryIO:
    """One of an export's two objects. Raises NotFound."""
    try:
        return storage.open(key)
    except FileNotFoundError:
        raise NotFound(
            f"The archive of export {found.export_id} is missing from the storage; create the "
            "export again."
        ) from None


def cancel(session: Session, owner_id: UUID, export_id: UUID) -> schemas.Export:
    """End an export; its worker finds out and stops.

    Raises:
        NotFound: no such export of the owner's.
        Conflict: it has ended already.
    """
    export = owned(session, Export, owner_id, export_id)
    session.refresh(export, with_for_update=True)
    if export.state in ENDED:
        raise Conflict(
            f"Export {export_id} is {export.state}; only one that runs can be cancelled."
        )
    export.state, export.ended_at, export.lease_until = "cancelled", now(session), None
    session.flush()
    return to_schemas(session, [export])[0]


def remove(session: Session, owner_id: UUID, export_id: UUID) -> None:
    """Remove an export that has ended; its files follow when the store is swept.

    Raises:
        NotFound: no such export of the owner's.
        Conflict: it has not ended.
    """
    export = owned(session, Export, owner_id, export_id)
    session.refresh(export, with_for_update=True)
    if export.state not in ENDED:
        raise Conflict(f"Export {export_id} is {export.state}; cancel it first.")
    session.execute(delete(ExportJob).where(ExportJob.export_id == export_id))
    session.delete(export)
    session.flush()


def expire(engine: Engine) -> int:
    """Let go of the files of exports whose time is over; returns of how many."""
    with writing(engine) as session:
        over = session.execute(
            update(Export)
            .where(Export.archive_key.is_not(None), Export.expires_at <= now(session))
            .values(archive_key=None, files_key=None)
            .returning(Export.id)
        ).all()
    return len(over)
