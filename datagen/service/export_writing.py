"""Writing exports: how a worker claims one, writes its archive or its files, and records it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import stamina
import structlog
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Export, Job, JobLabel, Model
from datagen.export.destination import DestinationSink
from datagen.export.info import DatasetInfo, ExportInfo, JobInfo
from datagen.export.packed import write_files
from datagen.export.rows import Origin, Rows, Split
from datagen.export.sinks import ZipSink
from datagen.export.writing import write_export
from datagen.queue import Message
from datagen.schemas import ExportCreate
from datagen.service import claims, repairing
from datagen.service.attempts import RETRY_SECONDS, attempt, in_transaction
from datagen.service.batch_work import UNLABELLED
from datagen.service.common import split_digests
from datagen.service.counting import refused_by_label
from datagen.service.destinations import check_destination, destinations
from datagen.service.export_contents import resolve
from datagen.service.export_rows import JobSource, RealSource, Sources
from datagen.service.exports import requested
from datagen.service.lease import Lease
from datagen.service.licences import licence_of
from datagen.settings import Settings
from datagen.storage import Storage, digest_of

TOLD_SECONDS = 1.0
# How long an export waits before it looks whether damaged shards were made again.
REPAIR_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Claimed:
    """An export that a worker has, and by which attempt."""

    export_id: UUID
    attempt: int


@dataclass(frozen=True)
class ExportWork:
    """All that a worker needs to know to write an export.

    Attributes:
        format, info, sources: what goes where.
        location: where in a destination an attempt before has begun, or even finished, to write.
    """

    format: str
    info: ExportInfo
    sources: Sources
    location: str | None


@dataclass(frozen=True)
class _Written:
    digest: str
    size: int
    archive_key: str | None = None
    files_key: str | None = None
    location: str | None = None


def run(
    engine: Engine, storage: Storage, settings: Settings, export_id: UUID
) -> list[Message] | None:
    """Claim an export, write its archive and record it; safe to be told of twice.

    Returns:
        the messages by which damaged shards are made again, where that was asked for; the export
        then waits for them. None where there was nothing to claim.
    """
    number = in_transaction(engine, lambda session: _claim(session, settings, export_id))
    if number is None:
        return None
    claimed = Claimed(export_id, number)
    asked: list[Message] | None = None
    with attempt(engine, settings, Export, export_id, number) as lease:
        work = _prepared(engine, storage, export_id)
        asked = _asked_repairs(engine, storage, settings, work, lease)
        if asked is None:
            written = (
                _write(engine, storage, claimed, work, lease)
                if work.sources.request.destination is None
                else _deliver(engine, settings, claimed, work, lease)
            )
            if not in_transaction(engine, lambda at: _close(at, settings, claimed, work, written)):
                log.warning("export_superseded", export=str(export_id), attempt=number)
        else:
            in_transaction(engine, lambda session: _postpone(session, claimed))
    return asked or []


def _asked_repairs(
    engine: Engine, storage: Storage, settings: Settings, work: ExportWork, lease: Lease
) -> list[Message] | None:
    if not work.sources.request.repair:
        return None
    jobs = [source.job_id for source in work.sources.jobs]
    return repairing.ask_for_damaged(engine, storage, settings, jobs, lease.check)


def _postpone(session: Session, claimed: Claimed) -> bool:
    return claims.postpone(session, Export, claimed.export_id, claimed.attempt, REPAIR_SECONDS)


def _claim(session: Session, settings: Settings, export_id: UUID) -> int | None:
    export = claims.claim(session, settings, Export, export_id)
    if export is None:
        return None
    export.images_written = 0
    return export.attempt


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _prepared(engine: Engine, storage: Storage, export_id: UUID) -> ExportWork:
    with reading(engine) as session:
        export = session.get_one(Export, export_id)
        request = requested(export)
        contents = resolve(session, export.owner_id, request)
        jobs = [session.get_one(Job, part.job_id) for part in contents.jobs]
        models = [session.get_one(Model, job.model_id) for job in jobs]
        dataset = (
            None if contents.real is None else session.get_one(Dataset, contents.real.dataset_id)
        )
        told = tuple(
            _job_info(session, job, model) for job, model in zip(jobs, models, strict=True)
        )
        info = ExportInfo(
            class_names=contents.class_names,
            image_shape=contents.image_shape,
            created_at=max(row.created_at for row in [*jobs, dataset] if row is not None),
            synthetic=_plain(contents.synthetic),
            real={} if contents.real is None else _plain(contents.real.counts),
            jobs=told,
            dataset=None
            if dataset is None
            else DatasetInfo(dataset.name, dataset.version, dataset.digest),
            selection=_selection(request),
            licence=request.license or licence_of(session, dataset, models),
        )
        sources = Sources(
            engine=engine,
            storage=storage,
            contents=contents,
            request=request,
            jobs=tuple(
                JobSource(job.id, _origin(job, model, number, len(jobs)), part.places)
                for number, (job, model, part) in enumerate(
                    zip(jobs, models, contents.jobs, strict=True), start=1
                )
            ),
            real=None
            if dataset is None
            else RealSource(dataset.storage_prefix, split_digests(dataset)),
        )
        return ExportWork(export.format, info, sources, export.location)


def _plain(counts: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    return {name: own.tolist() for name, own in counts.items()}


# What the manifest says otherwise, or what has no part in the bytes.
_ELSEWHERE = {
    "job", "jobs", "dataset", "format", "license", "destination", "path", "overwrite", "repair"
}  # fmt: skip


def _selection(request: ExportCreate) -> dict[str, Any]:
    """What was asked for beyond sources and format, without what was left at its default."""
    return request.model_dump(mode="json", exclude_defaults=True, exclude=_ELSEWHERE)


def _origin(job: Job, model: Model, number: int, jobs: int) -> Origin:
    return Origin(
        # The files of one job are named by their indices alone.
        prefix=f"job{number}-" if jobs > 1 else "",
        job=str(job.id),
        model=str(model.digest),
        seed=job.seed,
        sampler=job.sampler,
    )


def _job_info(session: Session, job: Job, model: Model) -> JobInfo:
    return JobInfo(
        job_id=str(job.id),
        request=_request(session, job, model),
        model_name=model.name,
        model_version=model.version,
        model_digest=str(model.digest),
        seed=job.seed,
        temperature=job.temperature,
        sampler=job.sampler,
        truncation=job.truncation,
        strength=job.strength,
        created_at=job.created_at,
        partial=job.state != "succeeded",
        refused=None if job.gate is None else refused_by_label(session, job, model),
        metrics=model.metrics,
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
        "strength": job.strength,
        "gate": job.gate,
    }


def _write(
    engine: Engine, storage: Storage, claimed: Claimed, work: ExportWork, lease: Lease
) -> _Written:
    followed = Followed(engine, claimed, lease)
    with (
        tempfile.TemporaryFile(prefix="datagen-export-") as file,
        tempfile.TemporaryFile(prefix="datagen-export-") as files,
    ):
        with ZipSink(file) as sink:
            write_export(work.format, followed.splits(work.sources.splits()), work.info, sink)
            write_files(sink.entries(), files)
        size = file.tell()
        file.seek(0)
        digest = digest_of(file)
        key = f"exports/{claimed.export_id}/{digest[:32]}"
        for ending, written in ((".files.parquet", files), (".zip", file)):
            lease.check()
            written.seek(0)
            storage.put(f"{key}{ending}", written)
    return _Written(digest, size, f"{key}.zip", f"{key}.files.parquet")


def _deliver(
    engine: Engine, settings: Settings, claimed: Claimed, work: ExportWork, lease: Lease
) -> _Written:
    """Write the files into a destination."""
    request = work.sources.request
    name = str(request.destination)
    check_destination(settings, name, request.path)
    path = request.path or f"{work.format}-{claimed.export_id}"
    followed = Followed(engine, claimed, lease)
    token, location = str(claimed.export_id), f"{name}/{path}"
    # What an attempt of this export has begun there is its own, finished or not.
    overwrite = request.overwrite or work.location == location
    with DestinationSink(destinations(settings)[name], path, token, overwrite=overwrite) as sink:
        # The place was free, or to be overwritten, and is the export's from now on.
        in_transaction(engine, lambda session: _change(session, claimed, location=location))
        write_export(work.format, followed.splits(work.sources.splits()), work.info, sink)
        lease.check()
        size, digest = 0, ""
        for entry in sink.entries():
            size, digest = size + entry.bytes, entry.sha256
    return _Written(digest, size, location=location)


class Followed:
    """Tells how far an export is as its rows pass, and stops it when it was lost."""

    def __init__(self, engine: Engine, claimed: Claimed, lease: Lease) -> None:
        self._engine, self._claimed, self._lease = engine, claimed, lease
        self._written, self._told_at = 0, time.monotonic()

    def splits(self, splits: Iterable[Split]) -> Iterator[Split]:
        """The splits, their rows followed."""
        for split in splits:
            yield Split(split.name, split.counts, self._rows(split.rows))

    def _rows(self, parts: Iterable[Rows]) -> Iterator[Rows]:
        for rows in parts:
            yield rows
            self._lease.check()
            self._written += len(rows)
            if time.monotonic() - self._told_at >= TOLD_SECONDS:
                self._tell()
                self._told_at = time.monotonic()

    def _tell(self) -> None:
        try:
            with writing(self._engine) as session:
                _change(session, self._claimed, images_written=self._written)
        except OperationalError as error:
            # A figure to look at; a database that restarts need not end an export.
            log.warning(
                "progress_not_recorded",
                export=str(self._claimed.export_id),
                error=str(error.orig),
            )


def _close(
    session: Session, settings: Settings, claimed: Claimed, work: ExportWork, written: _Written
) -> bool:
    moment = now(session)
    kept = settings.export_ttl if written.location is None else None
    return _change(
        session,
        claimed,
        state="succeeded",
        images_written=work.info.images_total,
        images_total=work.info.images_total,
        archive_key=written.archive_key,
        files_key=written.files_key,
        location=written.location,
        digest=written.digest,
        bytes=written.size,
        error=None,
        lease_until=None,
        ended_at=moment,
        expires_at=None if kept is None else moment + timedelta(seconds=kept),
    )


def _change(session: Session, claimed: Claimed, **values: Any) -> bool:
    """Change the export, if it is still the worker's."""
    return claims.change(session, Export, claimed.export_id, claimed.attempt, **values)
