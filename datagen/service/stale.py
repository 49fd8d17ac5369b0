"""The healing tick: what fell silent, got lost or was never sent is put right from the database."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Batch, Export, Figures, Model, Report
from datagen.queue import RUN_BATCH, RUN_EXPORT, RUN_FIGURES, RUN_REPORT, RUN_TRAINING, Message
from datagen.service import batches, claims, settling
from datagen.settings import Settings

SILENT = "every worker that tried it was killed or fell silent"

Ended = TypeVar("Ended", Export, Figures, Model, Report)


def requeue_stale(session: Session, settings: Settings) -> list[Message]:
    """Free expired leases, close what has no attempts left, cut batches; returns what to send.

    Jobs are locked before any batch, as everywhere: what fails comes first, then what is freed.
    """
    for batch in claims.exhausted(session, settings, Batch):
        batches.fail(session, batch.id, batch.attempt, batch.error or f"{SILENT}.")
    _end_exhausted(session, settings, Export)
    _end_exhausted(session, settings, Figures)
    _end_exhausted(session, settings, Model)
    _end_exhausted(session, settings, Report)
    messages = batches.make_batches(session, settings)
    messages += settling.unsettled(session, settings)
    claims.release_expired(session, settings, Batch)
    claims.release_expired(session, settings, Export)
    claims.release_expired(session, settings, Figures)
    claims.release_expired(session, settings, Model)
    claims.release_expired(session, settings, Report)
    messages += _told(RUN_BATCH, "batch_id", claims.unsent(session, settings, Batch))
    messages += _told(RUN_EXPORT, "export_id", claims.unsent(session, settings, Export))
    messages += _told(RUN_TRAINING, "model_id", claims.unsent(session, settings, Model))
    messages += _told(RUN_FIGURES, "figures_id", claims.unsent(session, settings, Figures))
    messages += _told(RUN_REPORT, "report_id", claims.unsent(session, settings, Report))
    return messages


def _end_exhausted(session: Session, settings: Settings, kind: type[Ended]) -> None:
    for row in claims.exhausted(session, settings, kind):
        reason = row.error or f"{SILENT}."
        session.execute(
            update(kind)
            .where(kind.id == row.id, kind.attempt == row.attempt, kind.state.in_(batches.OPEN))
            .values(
                state="failed",
                error=f"Gave up after {settings.max_attempts} attempts: {reason}",
                lease_until=None,
                ended_at=now(session),
                # What it would have gone on from; the sweep then removes it.
                **({"state_key": None} if kind in {Model, Report} else {}),
            )
        )


def _told(task: str, argument: str, ids: list[UUID]) -> list[Message]:
    return [Message(task, {argument: str(row_id)}) for row_id in ids]
