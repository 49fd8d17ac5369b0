"""The healing tick: what fell silent, got lost or was never sent is put right from the database."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Batch, Export, Model
from datagen.queue import RUN_BATCH, RUN_EXPORT, RUN_TRAINING, Message
from datagen.service import batches, claims
from datagen.settings import Settings

SILENT = "every worker that tried it was killed or fell silent"


def requeue_stale(session: Session, settings: Settings) -> list[Message]:
    """Free expired leases, close what has no attempts left, cut batches; returns what to send."""
    for kind in (Batch, Export, Model):
        claims.release_expired(session, settings, kind)
    for batch in claims.exhausted(session, settings, Batch):
        batches.fail(session, batch.id, batch.attempt, batch.error or f"{SILENT}.")
    for kind in (Export, Model):
        for row in claims.exhausted(session, settings, kind):
            _end(session, kind, row.id, row.attempt, row.error or SILENT)
    messages = batches.make_batches(session, settings)
    messages += _told(RUN_BATCH, "batch_id", claims.unsent(session, settings, Batch))
    messages += _told(RUN_EXPORT, "export_id", claims.unsent(session, settings, Export))
    messages += _told(RUN_TRAINING, "model_id", claims.unsent(session, settings, Model))
    return messages


def _end(
    session: Session, kind: type[Export | Model], row_id: UUID, attempt: int, reason: str
) -> None:
    session.execute(
        update(kind)
        .where(kind.id == row_id, kind.attempt == attempt, kind.state.in_(batches.OPEN))
        .values(
            state="failed",
            error=f"Gave up after {attempt} attempts: {reason}",
            lease_until=None,
            ended_at=now(session),
        )
    )


def _told(task: str, argument: str, ids: list[UUID]) -> list[Message]:
    return [Message(task, {argument: str(row_id)}) for row_id in ids]
