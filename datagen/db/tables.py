"""The tables, as the migrations build them on SQLite and PostgreSQL.

Three things need a word. `attempt` counts the starts of a piece of work and is its fencing token:
every claim raises it, so a worker whose claim was taken over finds no row to close. `attempt_floor`
is the attempt at which work last went on as planned: a training runs in slices, and only attempts
since its last slice count towards the cap. `samples` has no foreign key and no second index: rows
come a thousand at a time, and a label is a range of indices.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    event,
    false,
)
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from datagen.db.base import Archived, Claimed, Table, UtcDateTime, new_id, state_check
from datagen.db.pipeline_tables import Pipeline, Run

__all__ = ["Pipeline", "Run", "Table", "new_id"]


class Owner(Table):
    """Who owns keys, datasets, models, jobs and exports."""

    __tablename__ = "owners"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    # None takes the setting's.
    quota_images: Mapped[int | None] = mapped_column(BigInteger)
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    quota_jobs: Mapped[int | None]
    quota_uploads: Mapped[int | None]
    # Never less than what is used of the quota of images; None before the first count.
    images_granted: Mapped[int | None] = mapped_column(BigInteger)
    # When a worker last took up a training, report or drawing of theirs, and an export.
    train_turn_at: Mapped[datetime | None]
    export_turn_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class ApiKey(Table):
    """An API key: `dg_<id>_<secret>`; only the secret's SHA-256 is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SignIn(Table):
    """A link that signs in to the web page once; of its token only the hash is kept."""

    __tablename__ = "sign_ins"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class EndedSession(Table):
    """A session of the web page that was ended before its time, by a hash of its text."""

    __tablename__ = "ended_sessions"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime(), index=True)


class Replay(Table):
    """The first answer to a request with an `Idempotency-Key`; none yet while it is being done."""

    __tablename__ = "replays"

    # The key or the session that sent it: `Principal.caller`.
    caller: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    # Of method, path, query, type of the body and scope; and of the body, once it was read whole.
    # Another request may not take the same key.
    head: Mapped[bytes] = mapped_column(LargeBinary(32))
    body_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    body: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime(), index=True)


class Webhook(Table):
    """Where an owner is told of what has ended."""

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[str]]
    # Told of those jobs alone that name it.
    named: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Plain, since signatures are made by it; the former one signs too for a day.
    secret: Mapped[bytes] = mapped_column(LargeBinary(32))
    former_secret: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    rotated_at: Mapped[datetime | None]
    # In a row; while it is paused, no more than one delivery now and then is tried.
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    paused_until: Mapped[datetime | None]
    # Up to this moment what has ended is noted.
    looked_at: Mapped[datetime]
    created_at: Mapped[datetime]


class Delivery(Claimed, Table):
    """One telling of a webhook."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event", "resource_id", "happened_at"),
        Index("ix_deliveries_state_available_at", "state", "available_at"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id"))
    event: Mapped[str] = mapped_column(String(40))
    resource_id: Mapped[UUID]
    happened_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    status: Mapped[int | None]


class Secret(Table):
    """Random bytes that all processes of the service share, by what they are for."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary(32))


class Dataset(Table):
    """Real labelled images; the splits lie in the store as `<prefix>/<split>.safetensors`."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("owner_id", "name", "version"),
        UniqueConstraint("owner_id", "name", "digest"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    class_names: Mapped[list[str]]
    image_shape: Mapped[list[int]]
    counts: Mapped[dict[str, Any]]
    # What was found while reading: notes, skipped files, duplicates, the hash of each split's file.
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON, default=dict)
    storage_prefix: Mapped[str] = mapped_column(String(200))
    license: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime]
    # A tombstone: its images are gone, and models still name it.
    removed_at: Mapped[datetime | None]


class Model(Claimed, Table):
    """A trained generator with its judge, or one in training."""

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("owner_id", "name", "version"),
        Index("ix_models_state_lease_until", "state", "lease_until"),
        Index("ix_models_ended_at", "ended_at"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    visibility: Mapped[str] = mapped_column(String(16))
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    dataset_digest: Mapped[str | None] = mapped_column(String(64))
    # The model that its training starts from; it may be removed when that has ended.
    parent_id: Mapped[UUID | None] = mapped_column(index=True)
    parent_digest: Mapped[str | None] = mapped_column(String(64))
    options: Mapped[dict[str, Any]]
    config: Mapped[dict[str, Any] | None] = mapped_column(JSON, default=dict)
    class_names: Mapped[list[str]]
    image_shape: Mapped[list[int]]
    metrics: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any]]
    # Seconds that its slices took together, and the kind of device of the last of them.
    seconds: Mapped[float] = mapped_column(Float, server_default="0")
    device: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str | None] = mapped_column(String(64))
    checkpoint_key: Mapped[str | None] = mapped_column(String(200))
    judge_digest: Mapped[str | None] = mapped_column(String(64))
    judge_key: Mapped[str | None] = mapped_column(String(200))
    examples_digest: Mapped[str | None] = mapped_column(String(64))
    examples_key: Mapped[str | None] = mapped_column(String(200))
    index_digest: Mapped[str | None] = mapped_column(String(64))
    index_key: Mapped[str | None] = mapped_column(String(200))
    state_key: Mapped[str | None] = mapped_column(String(200))
    # A tombstone: its weights are gone, and jobs still name it.
    removed_at: Mapped[datetime | None]


class Figures(Archived, Claimed, Table):
    """Pictures of what a model has learnt, kept in the store as one zip archive."""

    __tablename__ = "figures"
    __table_args__ = (
        UniqueConstraint("model_id", "dataset_key"),
        Index("ix_figures_state_lease_until", "state", "lease_until"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    # The dataset's digest, or a hash of it and its owner where the model is another's;
    # `sample:mnist`, or empty where no real images are shown.
    dataset_key: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    names: Mapped[list[str]]


class Job(Table):
    """A request for images; its images are numbered 0 to `images_requested` - 1."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_owner_id_id", "owner_id", "id"),
        Index("ix_jobs_ended_at", "ended_at"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    sampler: Mapped[str] = mapped_column(String(16), server_default="prior")
    temperature: Mapped[float] = mapped_column(Float)
    truncation: Mapped[float | None] = mapped_column(Float)
    strength: Mapped[float | None] = mapped_column(Float)
    # `schemas.Gate`; None where every candidate is taken.
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    images_requested: Mapped[int] = mapped_column(BigInteger)
    images_stored: Mapped[int] = mapped_column(BigInteger, default=0)
    # Images of which no candidate passed the gate; with those stored they make up the request.
    images_short: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # Rounds of the closing pass, and when somebody was last told that one is due.
    rounds: Mapped[int] = mapped_column(default=0, server_default="0")
    settle_sent_at: Mapped[datetime | None]
    next_index: Mapped[int] = mapped_column(BigInteger, default=0)
    batch_size: Mapped[int]
    follow_exports: Mapped[list[str]]
    # `interactive` or `bulk`; None where its size decides.
    priority: Mapped[str | None] = mapped_column(String(16))
    # Whatever its owner noted; an attribute called `metadata` would be SQLAlchemy's.
    noted: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSON)
    # What was left out of what was asked for, in sentences.
    notes: Mapped[list[str] | None] = mapped_column(JSON)
    retention_days: Mapped[int | None]
    # Told of its end; no key, since webhooks go as they please.
    webhook_id: Mapped[UUID | None] = mapped_column(index=True)
    # Gone for everybody; its rows and files go piece by piece.
    removed_at: Mapped[datetime | None]
    # Raised by every change, for those who follow the job.
    revision: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    seconds_latents: Mapped[float] = mapped_column(Float, default=0.0)
    seconds_decode: Mapped[float] = mapped_column(Float, default=0.0)
    seconds_score: Mapped[float] = mapped_column(Float, default=0.0)
    seconds_encode: Mapped[float] = mapped_column(Float, default=0.0)
    seconds_store: Mapped[float] = mapped_column(Float, default=0.0)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


@event.listens_for(Job, "before_update")
def _revise(_mapper: Mapper[Job], _connection: Connection, job: Job) -> None:
    job.revision += 1


class Report(Archived, Claimed, Table):
    """What the images of a job or a model are worth, kept in the store as one zip archive."""

    __tablename__ = "reports"
    __table_args__ = (
        Index("ix_reports_owner_id_id", "owner_id", "id"),
        Index("ix_reports_state_lease_until", "state", "lease_until"),
        Index("ix_reports_ended_at", "ended_at"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), index=True)
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    # As that of `figures`, but that there are always real images.
    dataset_key: Mapped[str] = mapped_column(String(64))
    quick: Mapped[bool]
    images: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16))
    progress: Mapped[dict[str, Any]]
    outcome: Mapped[str | None] = mapped_column(String(32))
    sentence: Mapped[str | None] = mapped_column(Text)
    state_key: Mapped[str | None] = mapped_column(String(200))


class JobLabel(Table):
    """One stretch of a job's plan: `requested` images of `label`, starting at index `start`."""

    __tablename__ = "job_labels"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[int]
    start: Mapped[int] = mapped_column(BigInteger)
    requested: Mapped[int] = mapped_column(BigInteger)
    stored: Mapped[int] = mapped_column(BigInteger, default=0)
    # Sum of the scores in units of 1e-4, to which they are rounded: whole numbers add up exactly.
    score_sum: Mapped[int] = mapped_column(BigInteger, default=0)
    agreed: Mapped[int] = mapped_column(BigInteger, default=0)
    # Candidates that the gate refused, by reason, and images of which it refused every one.
    rejected_score: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rejected_copy: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rejected_duplicate: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    short: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class Redraw(Table):
    """An image that the closing pass of its job makes anew, since a lower index has the same one.

    While there are some, the batches that they lie in are open again; each takes its own off when
    it is closed.
    """

    __tablename__ = "redraws"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class Batch(Claimed, Table):
    """One unit of work: the images `start` to `stop` - 1 of a job, stored as one shard."""

    __tablename__ = "batches"
    __table_args__ = (
        UniqueConstraint("job_id", "start"),
        Index("ix_batches_state_lease_until", "state", "lease_until"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    start: Mapped[int] = mapped_column(BigInteger)
    stop: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    shard_key: Mapped[str | None] = mapped_column(String(200))
    shard_digest: Mapped[str | None] = mapped_column(String(64))
    shard_bytes: Mapped[int | None] = mapped_column(BigInteger)
    device: Mapped[str | None] = mapped_column(String(64))
    torch_version: Mapped[str | None] = mapped_column(String(64))
    # When somebody last asked for its damaged shard to be made again, and why it could not be.
    repair_asked_at: Mapped[datetime | None]
    repair_error: Mapped[str | None] = mapped_column(Text)


class Sample(Table):
    """One image with its label and metadata; its pixels lie in the batch's shard."""

    __tablename__ = "samples"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy types it so

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    label: Mapped[int]
    score: Mapped[float] = mapped_column(Float)
    judged_label: Mapped[int]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    # Rows of the real images, in the training split, that it was made from; -1 where there is none.
    first_source: Mapped[int] = mapped_column(BigInteger, server_default="-1")
    second_source: Mapped[int] = mapped_column(BigInteger, server_default="-1")


class Export(Archived, Claimed, Table):
    """A dataset written in a format, kept in the store as one zip archive."""

    __tablename__ = "exports"
    __table_args__ = (
        Index("ix_exports_owner_id_id", "owner_id", "id"),
        Index("ix_exports_state_lease_until", "state", "lease_until"),
        Index("ix_exports_ended_at", "ended_at"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    # The first of its jobs; `export_jobs` has all of them.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    format: Mapped[str] = mapped_column(String(40))
    # `schemas.ExportCreate`, and what its answer warned of; a version before wrote neither.
    request: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    warnings: Mapped[list[str] | None] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    images_written: Mapped[int] = mapped_column(BigInteger, default=0)
    images_total: Mapped[int] = mapped_column(BigInteger)
    # The list of its files, with where each lies in the archive.
    files_key: Mapped[str | None] = mapped_column(String(200))
    # Of what went to a destination: its name and the path there.
    location: Mapped[str | None] = mapped_column(String(300))
    # After this the archive is swept away, and its key with it.
    expires_at: Mapped[datetime | None]


class ExportJob(Table):
    """A job whose images an export has; the positions tell their order in it."""

    __tablename__ = "export_jobs"

    export_id: Mapped[UUID] = mapped_column(ForeignKey("exports.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), index=True)
