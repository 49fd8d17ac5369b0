"""The tables of pipelines: recipes, and their runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from datagen.db.base import Claimed, Table, new_id, state_check


class Pipeline(Table):
    """A recipe, and when it is due."""

    __tablename__ = "pipelines"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        Index("ix_pipelines_next_due_at", "next_due_at"),
        Index("ix_pipelines_watched", "owner_id", "watched"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    recipe: Mapped[dict[str, Any]]
    paused: Mapped[bool]
    # None where no time is due any more, or none ever is.
    next_due_at: Mapped[datetime | None]
    # The dataset whose new versions make it due.
    watched: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Run(Claimed, Table):
    """A pipeline's work for one due time; unique by both, so that no two ticks make two."""

    __tablename__ = "pipeline_runs"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "due_at"),
        Index("ix_pipeline_runs_pipeline_id_id", "pipeline_id", "id"),
        Index("ix_pipeline_runs_state_lease_until", "state", "lease_until"),
        state_check(),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    pipeline_id: Mapped[UUID] = mapped_column(ForeignKey("pipelines.id"))
    due_at: Mapped[datetime]
    cause: Mapped[str] = mapped_column(String(16))
    # The recipe as it was when the run was made, and its version.
    version: Mapped[int]
    recipe: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    retry: Mapped[int] = mapped_column(default=0)
    steps: Mapped[list[Any]] = mapped_column(JSON)
    # What it waits for, so that the tick finds those that go on with one query a kind.
    waits_for: Mapped[str | None] = mapped_column(String(16))
    waits_id: Mapped[UUID | None] = mapped_column(index=True)
    seed: Mapped[int | None] = mapped_column(BigInteger)
    # No keys: what a run has made goes its own way.
    dataset_id: Mapped[UUID | None]
    model_id: Mapped[UUID | None]
    job_id: Mapped[UUID | None]
    report_id: Mapped[UUID | None]
    exports: Mapped[list[str]]
    images: Mapped[int | None] = mapped_column(BigInteger)
    sentence: Mapped[str | None] = mapped_column(Text)
