"""The healing tick: what fell silent, got lost or was never sent is put right from the database."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from datagen.db.tables import Batch, Delivery, Export, Figures, Model, Report, Run
from datagen.queue import (
    DELIVER,
    RUN_BATCH,
    RUN_EXPORT,
    RUN_FIGURES,
    RUN_REPORT,
    RUN_TRAINING,
    Message,
)
from datagen.service import batches, claims, clock, receivers, settling
from datagen.settings import Settings

# Runs are looked after by a tick of their own (`pipeline_ticks`).
_KINDS: tuple[tuple[type[claims.Claimable], str, str], ...] = (
    (Batch, RUN_BATCH, "batch_id"),
    (Export, RUN_EXPORT, "export_id"),
    (Model, RUN_TRAINING, "model_id"),
    (Figures, RUN_FIGURES, "figures_id"),
    (Report, RUN_REPORT, "report_id"),
    (Delivery, DELIVER, "delivery_id"),
)


def requeue_stale(session: Session, settings: Settings) -> list[Message]:
    """Free expired leases, close what has no attempts left, cut batches; returns what to send.

    Jobs are locked before any batch, as everywhere: what fails comes first, then what is freed.
    """
    clock.bring_back(session, settings, [*(kind for kind, _, _ in _KINDS), Run])
    clock.bring_back_due_times(session)
    for kind, _, _ in _KINDS:
        for row_id, attempt, failure in claims.exhausted(session, settings, kind):
            if kind is Batch:
                batches.fail(session, row_id, attempt, failure.reason)
            else:
                claims.end_failed(session, kind, row_id, attempt, str(failure))
    messages = batches.make_batches(session, settings)
    messages += settling.unsettled(session, settings)
    for kind, _, _ in _KINDS:
        claims.release_expired(session, settings, kind)
    for kind, task, argument in _KINDS:
        if kind is not Delivery:
            messages += _messages(task, argument, claims.unsent(session, settings, kind))
    receivers.give_up(session)
    return messages + receivers.due(session, settings)


def _messages(task: str, argument: str, ids: list[UUID]) -> list[Message]:
    return [Message(task, {argument: str(row_id)}) for row_id in ids]
